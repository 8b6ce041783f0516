"""Data sets into others: divided without leaks, converted, merged without clashes; the originals stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from focus_detr.data import list_splits, load_dataset
from focus_detr.data.restructuring import convert_dataset, merge_datasets, split_dataset
from focus_detr.errors import FocusDetrError
from helpers.doctor_data import Healthy
from helpers.tiny_datasets import write_voc, write_yolo


def _names(root: Path, split: str) -> set[str]:
    return {record.path.name for record in load_dataset(root, split).records}


def test_a_division_has_each_class_and_share_and_is_the_same_for_a_seed(tmp_path: Path) -> None:
    root = Healthy(tmp_path / "data", {"train": 20}).write()
    shares = {"val": 0.2, "test": 0.1}
    changes = split_dataset(root, tmp_path / "a", shares, seed=3)
    assert changes.pictures == {"train": 14, "val": 4, "test": 2}
    split_dataset(root, tmp_path / "b", shares, seed=3)
    split_dataset(root, tmp_path / "c", shares, seed=4)
    for split in ("train", "val", "test"):
        assert all(load_dataset(tmp_path / "a", split).class_counts().values())
        assert _names(tmp_path / "a", split) == _names(tmp_path / "b", split)
    assert _names(tmp_path / "a", "val") != _names(tmp_path / "c", "val")
    every = [_names(tmp_path / "a", split) for split in ("train", "val", "test")]
    assert set().union(*every) == _names(root, "train") and sum(map(len, every)) == 20


@pytest.mark.parametrize("seed", range(4))
def test_pictures_that_look_alike_stay_together(seed: int, tmp_path: Path) -> None:
    data = Healthy(tmp_path / "data", {"train": 12})
    data.write()
    for index in range(0, 12, 2):  # as the next frame of a video
        with Image.open(data.picture("train", index)) as image:
            image.point(lambda value: min(255, value + 5)).save(data.picture("train", index + 1))
    split_dataset(data.root, tmp_path / "out", {"val": 0.3, "test": 0.2}, seed=seed)
    for split in ("train", "val", "test"):
        numbers = {
            int(name.removeprefix("train").removesuffix(".png")) for name in _names(tmp_path / "out", split)
        }
        assert numbers == {number ^ 1 for number in numbers}


def test_a_share_that_cannot_be_reached_is_said(tmp_path: Path) -> None:
    data = Healthy(tmp_path / "data", {"train": 20})
    data.write()
    for index in range(20):  # two scenes
        with Image.open(data.picture("train", index // 10 * 10)) as image:
            image.point(lambda value, more=index % 10: min(255, value + more)).save(
                data.picture("train", index)
            )
    changes = split_dataset(data.root, tmp_path / "out", {"val": 0.2})
    assert changes.pictures == {"train": 10, "val": 10}
    assert any(
        "50.0% of the pictures, not the 20.0%" in each and "10 at most" in each for each in changes.changed
    )


def test_a_division_takes_one_split_of_several_and_refuses_to_guess(tmp_path: Path) -> None:
    root = Healthy(tmp_path / "data", {"train": 8, "val": 6}).write()
    with pytest.raises(FocusDetrError, match=r"train, val.*train\+val"):
        split_dataset(root, tmp_path / "out", {"val": 0.25})
    assert split_dataset(root, tmp_path / "one", {"val": 0.25}, split="train").pictures.total() == 8
    assert split_dataset(root, tmp_path / "both", {"val": 0.25}, split="train+val").pictures.total() == 14


@pytest.mark.parametrize("shares", [{}, {"val": 0.0}, {"val": 0.6, "test": 0.4}, {"train": 0.5}])
def test_shares_that_make_no_division_are_refused(shares: dict[str, float], tmp_path: Path) -> None:
    root = Healthy(tmp_path / "data", {"train": 4}).write()
    with pytest.raises(FocusDetrError, match="shares"):
        split_dataset(root, tmp_path / "out", shares)


def test_a_picture_that_cannot_be_read_is_left_out_of_a_division_and_said(tmp_path: Path) -> None:
    data = Healthy(tmp_path / "data", {"train": 8})
    data.write()
    path = data.picture("train", 2)
    path.write_bytes(path.read_bytes()[:-200])
    changes = split_dataset(data.root, tmp_path / "out", {"val": 0.25})
    assert changes.pictures.total() == 7 and str(path) in changes.left_out[0]


def test_what_was_left_out_on_reading_is_in_the_list(tmp_path: Path) -> None:
    data = Healthy(tmp_path / "data")
    data.splits["train"]["annotations"][0]["bbox"] = [5, 5, 0, 9]
    convert_dataset(data.write(), tmp_path / "out", "voc")
    said = (tmp_path / "out" / "CHANGES.txt").read_text()
    assert "Left out" in said and "without width or height" in said


def test_merged_classes_go_by_name_and_ids_and_files_do_not_clash(tmp_path: Path) -> None:
    first = Healthy(tmp_path / "first")
    second = Healthy(tmp_path / "second", {"train": 3, "val": 2})
    for each in second.splits.values():  # other ids for the same names, and one more
        each["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "emu"}]
    first.write(), second.write()
    changes = merge_datasets([tmp_path / "first", tmp_path / "second"], tmp_path / "out")
    train = load_dataset(tmp_path / "out", "train", on_problem="raise")
    assert train.class_names == ["cat", "dog", "emu"] and train.category_ids == [1, 2, 3]
    assert train.class_counts() == {"cat": 12, "dog": 18, "emu": 6}
    assert len(train) == 9 and len({record.image_id for record in train.records}) == 9
    content = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert len({each["id"] for each in content["images"]}) == 9
    assert len(changes.renamed) == 5 and any("numbered afresh" in each for each in changes.changed)
    assert any("'emu'" in each and "its id 2" in each for each in changes.changed)


def test_data_sets_of_three_formats_merge(tmp_path: Path) -> None:
    coco = Healthy(tmp_path / "coco").write()
    sources = [write_voc(tmp_path / "voc"), write_yolo(tmp_path / "yolo"), coco]
    changes = merge_datasets(sources, tmp_path / "out", "yolo")
    assert list_splits(tmp_path / "out") == ["train", "val"]
    assert changes.pictures == {"train": 2 + 2 + 6, "val": 1 + 1 + 5}
    before = sum(sum(load_dataset(each, "train").class_counts().values()) for each in sources)
    assert sum(load_dataset(tmp_path / "out", "train").class_counts().values()) == before


def test_a_split_that_is_others_together_is_not_written_twice(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("a\nb\nc\n")
    changes = convert_dataset(root, tmp_path / "out", "coco")
    assert list(changes.pictures) == ["train", "val"] and "'trainval'" in changes.left_out[0]


def test_merging_one_data_set_or_into_one_of_them_is_refused(tmp_path: Path) -> None:
    root, other = Healthy(tmp_path / "a").write(), Healthy(tmp_path / "b").write()
    with pytest.raises(FocusDetrError, match="two data sets"):
        merge_datasets([root], tmp_path / "out")
    (tmp_path / "again").symlink_to(root)
    with pytest.raises(FocusDetrError, match="again is named twice"):
        merge_datasets([tmp_path / "again", root], tmp_path / "out")
    with pytest.raises(FocusDetrError, match="lies in the data set"):
        merge_datasets([root, other], other / "out")
    with pytest.raises(FocusDetrError, match="must be one of coco, yolo, voc"):
        convert_dataset(root, tmp_path / "out", "kitti")

"""`--fix` writes a copy in which the doctor finds nothing to mend, and leaves the original as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from focus_detr.data import list_splits, load_dataset
from focus_detr.data.doctor import examine
from focus_detr.data.doctor.fix import write_fixed
from focus_detr.errors import FocusDetrError, NotWrittenError
from helpers.doctor_data import Healthy
from helpers.doctor_faults import FAULTS
from helpers.tiny_datasets import write_voc, write_yolo

_MENDED = [
    "unreadable-image",
    "identical-pictures",
    "picture-in-two-splits",
    "alike-in-two-splits",
    "nearly-doubled-box",
    "box-clipped",
    "empty-box",
    "box-outside",
    "missing-image",
    "duplicate-image-id",
    "union-of-splits",
]


def _state(root: Path) -> dict[str, tuple[str, float]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", FAULTS)
def test_what_can_be_mended_is_gone_from_the_copy_and_listed(kind: str, tmp_path: Path) -> None:
    root, copy = tmp_path / "original", tmp_path / "copy"
    FAULTS[kind][1](Healthy(root))
    before = _state(root)
    found = examine(root)
    assert any(each.mended for each in found.findings if each.kind == kind) == (kind in _MENDED)
    write_fixed(found, copy)
    assert _state(root) == before
    after = examine(copy)
    assert not [each for each in after.findings if each.mended]
    assert not [each for each in after.findings if each.severity == "error"]
    listed = (copy / "CHANGES.txt").read_text()
    if kind in _MENDED:
        assert str(root) in listed.split("\n", 1)[1]
    else:  # nothing to do: all is there
        assert "Left out" not in listed and "Changed" not in listed


def test_the_split_to_measure_on_keeps_a_picture_that_two_have(tmp_path: Path) -> None:
    data = Healthy(tmp_path / "original", {"test": 3, "train": 4, "val": 3})
    data.write()
    for split in ("train", "val"):
        data.picture(split, 1).write_bytes(data.picture("test", 0).read_bytes())
    changes = write_fixed(examine(data.root), tmp_path / "copy")
    assert changes.pictures == {"test": 3, "train": 3, "val": 2}
    assert len(changes.left_out) == 2 and all("test0.png (test)" in each for each in changes.left_out)


def test_crowds_areas_polygons_and_pictures_without_objects_are_in_the_copy(tmp_path: Path) -> None:
    data = Healthy(tmp_path / "original")
    train = data.splits["train"]
    train["annotations"] = [each for each in train["annotations"] if each["image_id"] != 105]
    train["annotations"][0]["iscrowd"] = 1
    train["annotations"][1]["segmentation"] = [[60, 8, 90, 8, 75, 33]]
    write_fixed(examine(data.write()), tmp_path / "copy")
    content = json.loads((tmp_path / "copy" / "annotations" / "instances_train.json").read_text())
    assert len(content["images"]) == 6
    assert content["categories"] == train["categories"]
    (crowd,) = [each for each in content["annotations"] if each["iscrowd"]]
    assert crowd["bbox"] == train["annotations"][0]["bbox"]
    (shaped,) = [each for each in content["annotations"] if "segmentation" in each]
    assert shaped["segmentation"] == [[60, 8, 90, 8, 75, 33]] and shaped["bbox"] == [60, 8, 30, 25]
    areas = {each["area"] for each in content["annotations"]}
    assert areas == {each["area"] for each in train["annotations"]}


@pytest.mark.parametrize("write", [write_voc, write_yolo])
def test_the_copy_has_the_format_of_the_original(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = write(tmp_path / "original")
    for number, path in enumerate(sorted(root.rglob("*.[jp][pn]g"))):  # no two alike
        Image.linear_gradient("L").rotate(40 * number).resize((40, 30)).save(path)
    write_fixed(examine(root), tmp_path / "copy")
    assert list_splits(tmp_path / "copy") == list_splits(root)
    for split in list_splits(root):
        old, new = (load_dataset(place, split) for place in (root, tmp_path / "copy"))
        assert (old.format, old.class_names, old.class_counts()) == (
            new.format,
            new.class_names,
            new.class_counts(),
        )


def test_a_copy_is_not_written_into_the_original_nor_into_files(tmp_path: Path) -> None:
    found = examine(Healthy(tmp_path / "original").write())
    with pytest.raises(FocusDetrError, match="lies in the data set itself"):
        write_fixed(found, tmp_path / "original" / "fixed")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(FocusDetrError, match="holds files"):
        write_fixed(found, tmp_path / "used")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "used"]


def test_no_copy_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(Healthy(tmp_path / "original").write())

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(NotWrittenError, match="No space left"):
        write_fixed(found, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_a_split_that_cannot_be_read_is_not_dropped_in_silence(tmp_path: Path) -> None:
    root = Healthy(tmp_path / "original").write()
    (root / "instances_val.json").write_text("{")
    with pytest.raises(FocusDetrError, match=r"instances_val\.json"):
        write_fixed(examine(root), tmp_path / "copy")

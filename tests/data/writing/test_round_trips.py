"""What a format can hold comes back from it, whatever the data set; what it cannot is said."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from focus_detr.data import DetectionDataset, Record, load_dataset
from focus_detr.data.restructuring import convert_dataset
from focus_detr.data.writing import Changes, write_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array

FORMATS = ("coco", "yolo", "voc")
NUMBERED = "shards"  # pictures are named by their numbers in it, in the order of their names here
QUICK = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

_names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
        lambda name: name.strip() == name and not name.startswith(("'", '"'))
    ),
    min_size=1,
    max_size=3,
    unique=True,
)


@st.composite
def _objects(draw: st.DrawFn, width: int, height: int, classes: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        sides = []
        for limit in (width, height):
            # In hundredths of a pixel.
            low = draw(st.integers(0, 100 * limit - 150))
            sides.append((low / 100, draw(st.integers(low + 125, 100 * limit)) / 100))
        (left, right), (top, bottom) = sides
        found.append(
            {
                "box": (left, top, right, bottom),
                "label": draw(st.integers(0, classes - 1)),
                "crowd": draw(st.integers(0, 9)) == 0,
                "polygon": draw(st.booleans()),
            }
        )
    return found


@st.composite
def _content(draw: st.DrawFn) -> tuple[list[str], dict[str, list[tuple[tuple[int, int], int, Any]]]]:
    """Class names, and of each split its pictures: size in the file, EXIF orientation, objects."""
    names = draw(_names)
    splits = {}
    for split in draw(st.sampled_from([("train",), ("train", "val"), ("train", "val", "test")])):
        pictures = []
        for _ in range(draw(st.integers(1, 3))):
            size = draw(st.integers(8, 40)), draw(st.integers(8, 40))
            turn = draw(st.sampled_from([1, 1, 3, 6, 8]))
            upright = size[::-1] if turn >= 5 else size
            pictures.append((size, turn, draw(_objects(*upright, len(names)))))
        splits[split] = pictures
    return names, splits


def _instances(objects: list[dict[str, Any]]) -> Instances:
    masks = []
    for each in objects:
        left, top, right, bottom = each["box"]
        ring = [left, top, right, top, right, bottom, left, bottom, left, (top + bottom) / 2]
        masks.append(Mask.of_rings([ring]) if each["polygon"] else None)
    return Instances(
        np.array([each["box"] for each in objects], dtype=np.float32).reshape(-1, 4),
        np.array([each["label"] for each in objects], dtype=np.int64),
        masks=as_array(masks) if any(masks) else None,
    )


def _datasets(folder: Path, names: list[str], splits: dict[str, Any]) -> dict[str, DetectionDataset]:
    folder.mkdir()
    found = {}
    for split, pictures in splits.items():
        records = []
        for number, (size, turn, objects) in enumerate(pictures):
            path = folder / f"{split} {number}.jpg"
            exif = Image.Exif()
            exif[0x0112] = turn
            Image.new("RGB", size, (number * 40, 90, 30)).save(path, exif=exif)
            plain = [each for each in objects if not each["crowd"]]
            crowds = [each for each in objects if each["crowd"]]
            upright = size[::-1] if turn >= 5 else size
            records.append(
                Record(path, number + 1, _instances(plain), _instances(crowds), known_size=upright)
            )
        found[split] = DetectionDataset(
            records, names, [3 * i + 2 for i in range(len(names))], name=str(folder), split=split
        )
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _seen(dataset: DetectionDataset) -> list[Any]:
    """Pictures by their names, with sizes, and their objects, in order."""
    return [
        (record.path.stem, record.size, record.instances, record.crowds)
        for record in sorted(dataset.records, key=lambda record: record.path.stem)
    ]


def _assert_same(
    before: DetectionDataset, after: DetectionDataset, crowds: bool, pixels: float, named: bool = True
) -> None:
    assert after.class_names == before.class_names
    assert after.problems == []
    pairs = list(zip(_seen(before), _seen(after), strict=True))
    for (stem, size, objects, regions), (other, its_size, its, its_regions) in pairs:
        assert (stem == other or not named) and size == its_size
        groups = [(objects, its)] + ([(regions, its_regions)] if crowds else [])
        assert crowds or len(its_regions) == 0
        for old, new in groups:
            assert new.labels.tolist() == old.labels.tolist()
            assert np.abs(new.boxes_xyxy - old.boxes_xyxy).max(initial=0) <= pixels
            for row in range(len(old)):
                mask, its_mask = (each.masks[row] if each.masks is not None else None for each in (old, new))
                assert (mask is None) == (its_mask is None)
                if mask is not None and its_mask is not None:
                    (ring,), (its_ring,) = mask.shape, its_mask.shape
                    its_ring = its_ring * its_mask.scale + its_mask.shift
                    assert np.abs(ring - its_ring).max() <= pixels


@pytest.mark.parametrize("format", [*FORMATS, NUMBERED])
@QUICK
@given(content=_content())
def test_a_written_data_set_is_read_as_it_was(format: str, content: Any) -> None:
    with _folder() as folder:
        before = _datasets(folder / "original", *content)
        changes = write_dataset(before, folder / "written", format)
        crowds = sum(len(record.ignored) for dataset in before.values() for record in dataset.records)
        if whole := format in ("coco", NUMBERED):
            assert changes.losses == []
        else:
            assert any("crowd region" in loss for loss in changes.losses) == (crowds > 0)
        for split, dataset in before.items():
            everything = all(
                len(record.stated_crowds) and not len(record.labels) for record in dataset.records
            )
            if whole and (everything or crowds > sum(len(r.labels) for r in dataset.records)):
                continue  # of mostly crowds the loader warns, or refuses them
            after = load_dataset(folder / "written", split, on_problem="ignore", masks="where given")
            _assert_same(dataset, after, crowds=whole, pixels=0.01, named=format != NUMBERED)


@pytest.mark.slow
@pytest.mark.parametrize("first", [*FORMATS, NUMBERED])
@pytest.mark.parametrize("second", FORMATS)
@settings(QUICK, max_examples=4)
@given(content=_content())
def test_formats_convert_into_each_other(first: str, second: str, content: Any) -> None:
    names, splits = content
    for pictures in splits.values():
        for _, _, objects in pictures:
            for each in objects:
                each["crowd"] = False
    with _folder() as folder:
        before = _datasets(folder / "original", names, splits)
        write_dataset(before, folder / "first", first)
        changes = convert_dataset(folder / "first", folder / "second", second)
        assert changes.left_out == [] and changes.losses == []
        for split, dataset in before.items():
            after = load_dataset(folder / "second", split, on_problem="ignore", masks="where given")
            assert after.format == second
            _assert_same(dataset, after, crowds=False, pixels=0.02, named=first != NUMBERED)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 30)])
def test_the_smallest_boxes_are_kept(format: str, size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    boxes = [(0, 0, 0.6, 0.6), (0.2, 0.2, 0.8, 0.8), (0, 0, 1, 1)]
    boxes += [(width - 0.5, height - 0.02, width, height), (width - 0.02, 0, width, height)]
    objects = [{"box": box, "label": i, "crowd": False, "polygon": False} for i, box in enumerate(boxes)]
    names = [f"class {i}" for i in range(len(boxes))]
    before = _datasets(tmp_path / "original", names, {"train": [(size, 1, objects), ((9, 9), 1, [])]})
    write_dataset(before, tmp_path / "written", format)
    after = load_dataset(tmp_path / "written", "train", on_problem="ignore")
    assert sorted(after.records[0].labels.tolist()) == list(range(len(boxes))), after.problems
    assert after.problems == []
    near = np.abs(after.records[0].boxes_xyxy - np.array(boxes))
    assert near.max() <= 1.1


def test_what_a_format_cannot_hold_is_counted(tmp_path: Path) -> None:
    runs = Mask.of_bitmap(np.pad(np.ones((4, 4), dtype=bool), 8))
    rings = Mask.of_rings([[1, 1, 5, 1, 5, 5], [8, 8, 12, 8, 12, 12]])
    other = Mask.of_rings([[3, 3, 9, 3, 9, 9]])
    (dataset,) = _datasets(tmp_path / "original", ["cat"], {"train": [((20, 20), 1, [])]}).values()
    boxes = np.array([[8, 8, 12, 12], [1, 1, 12, 12], [1, 1, 9, 9], [2, 2, 9, 9]], dtype=np.float32)
    labels = np.zeros(4, dtype=np.int64)
    dataset.records[0].stated = Instances(
        boxes, labels, areas=np.full(4, 5.0), masks=as_array([runs, rings, other, None])
    )
    dataset.records[0].stated_crowds = Instances(boxes[:1], labels[:1])
    said = {
        format: " ".join(write_dataset({"train": dataset}, tmp_path / format, format).losses)
        for format in FORMATS
    }
    assert said["coco"] == ""
    for each in (
        "1 crowd region was left out",
        "1 mask of pixels became a box",
        "1 object of several polygons",
        "1 polygon was left out",
        "1 area other",
    ):
        assert each in said["yolo"]
    for each in ("1 crowd region was left out", "1 area other", "2 masks of pixels or of several polygons"):
        assert each in said["voc"]
    assert "1 crowd region was left out" in (tmp_path / "voc" / "CHANGES.txt").read_text()
    back = load_dataset(tmp_path / "coco", "train", masks=True).records[0]
    assert back.stated.masks is not None and back.stated.masks[0].decode((20, 20)).sum() == 16
    assert len(back.stated.masks[1].shape) == 2 and len(back.ignored) == 1


def test_a_polygon_that_reads_as_keypoints_becomes_a_box(tmp_path: Path) -> None:
    ring = [[2, 3], [18, 3], [18, 18], [0, 12], [4, 0]]  # ten numbers; the seventh and tenth are 0
    (dataset,) = _datasets(tmp_path / "original", ["cat"], {"train": [((20, 20), 1, [])]}).values()
    box = np.array([[0, 0, 18, 18]], dtype=np.float32)
    masks = as_array([Mask.of_rings([np.array(ring).reshape(-1)])])
    dataset.records[0].stated = Instances(box, np.zeros(1, dtype=np.int64), masks=masks)
    changes = write_dataset({"train": dataset}, tmp_path / "yolo", "yolo")
    assert len(changes.losses) == 1 and "keypoints" in changes.losses[0]
    (record,) = load_dataset(tmp_path / "yolo", "train", on_problem="raise").records
    assert record.boxes_xyxy.tolist() == box.tolist()


def test_names_that_clash_get_others_and_that_is_said(tmp_path: Path) -> None:
    records = []
    for number, name in enumerate(("one/a.png", "two/a.png", "two/A.jpg", "three/b.c.png")):
        path = tmp_path / "original" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
        objects = Instances(np.array([[1, 1, 5, 5]], np.float32), np.array([0]))
        records.append(Record(path, number, objects, known_size=(9, 9)))
    dataset = DetectionDataset(records, ["cat"], [1], name=str(tmp_path / "original"), split="train")
    for format in FORMATS:
        changes = write_dataset({"train": dataset}, tmp_path / format, format)
        after = load_dataset(tmp_path / format, "train", on_problem="raise")
        assert len(after) == 4 and len({each.path.stem.casefold() for each in after.records}) == 4
        assert len(changes.renamed) == (3 if format == "voc" else 2)
        assert "a-2" in (tmp_path / format / "CHANGES.txt").read_text()


def test_splits_that_yolo_cannot_name_are_refused_and_a_single_one_is_train(tmp_path: Path) -> None:
    content = {"fold1": [((9, 9), 1, [])], "fold2": [((9, 9), 1, [])]}
    datasets = _datasets(tmp_path / "original", ["cat"], content)
    with pytest.raises(FocusDetrError, match="'fold1': YOLO names its splits"):
        write_dataset(datasets, tmp_path / "yolo", "yolo")
    changes = write_dataset({"fold1": datasets["fold1"]}, tmp_path / "yolo", "yolo", Changes())
    assert load_dataset(tmp_path / "yolo", "train").format == "yolo" and "'train'" in changes.changed[0]


def test_pictures_are_copied_byte_for_byte(tmp_path: Path) -> None:
    datasets = _datasets(tmp_path / "original", ["cat"], {"train": [((9, 12), 6, [])]})
    for format in FORMATS:
        write_dataset(datasets, tmp_path / format, format)
        (copy,) = [each.path for each in load_dataset(tmp_path / format, "train").records]
        assert copy.read_bytes() == datasets["train"].records[0].path.read_bytes()


def test_names_of_several_lines_become_names_of_one_that_no_other_class_has(tmp_path: Path) -> None:
    names = ["a\nb", "a\\nb", "x" * 300]
    pictures = [
        ((20, 20), 1, [{"box": (2, 2, 9, 9), "label": label, "crowd": False, "polygon": False}])
        for label in range(3)
    ]
    before = _datasets(tmp_path / "original", names, {"train": pictures})
    changes = write_dataset(before, tmp_path / "voc", "voc")
    after = load_dataset(tmp_path / "voc", "train")
    assert sorted(after.class_counts().values()) == [1, 1, 1] and "a\\nb" in after.class_names
    assert len([each for each in changes.changed if each.startswith("class ")]) == 2

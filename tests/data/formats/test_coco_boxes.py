"""Boxes of COCO annotations that have polygons or masks alone, and objects that nobody can place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from focus_detr.data import DetectionDataset, load_dataset
from focus_detr.data.formats.coco_boxes import box_around
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import annotation, coco_content, write_coco


def _mask(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    pixels = np.zeros((30, 40), dtype=np.uint8, order="F")
    pixels[top:bottom, left:right] = 1
    return pixels


def _runs(pixels: np.ndarray) -> list[int]:
    """Lengths of the runs of 0 and 1 in turns, column by column."""
    flat = np.concatenate([[0], pixels.ravel(order="F"), [0]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()


def _load(tmp_path: Path, content: dict[str, Any]) -> DetectionDataset:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    return load_dataset(tmp_path, on_problem="ignore")


def _kinds(dataset: DetectionDataset) -> list[str]:
    return [problem.kind for problem in dataset.problems]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_mask_without_bbox_gives_the_box_around_it(tmp_path: Path, compressed: bool) -> None:
    pixels = _mask(6, 18, 5, 15) | _mask(20, 22, 30, 31)
    counts = coco_mask.encode(pixels)["counts"].decode() if compressed else _runs(pixels)
    content = coco_content(count=1)
    del content["annotations"][0]["bbox"]
    content["annotations"][0]["segmentation"] = {"size": [30, 40], "counts": counts}
    dataset = _load(tmp_path, content)
    assert dataset.records[0].boxes.tolist() == [[5, 6, 31, 22]]
    assert _kinds(dataset) == ["box-from-polygon"]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [0, 0], "counts": "00"},
        {"size": [-3, 5], "counts": "00"},
        {"size": [2**40, 2**40], "counts": [1, 2]},
        {"size": [30], "counts": [1, 2]},
        {"size": ["a", None], "counts": [1, 2]},
        {"size": [30, 40], "counts": []},
        {"size": [30, 40], "counts": [1200]},
        {"size": [30, 40], "counts": [-5, 3]},
        {"size": [30, 40], "counts": [2**70, 1]},
        {"size": [30, 40], "counts": [1.5, 2]},
        {"size": [30, 40], "counts": [10, 100_000]},
        {"size": [30, 40], "counts": "o" * 1000},
        {"size": [30, 40], "counts": "\x00\u00e9"},
        {"size": [30, 40], "counts": {"a": 1}},
        {},
    ],
    ids=repr,
)
def test_a_mask_that_is_none_has_no_box(segmentation: dict[str, Any]) -> None:
    assert box_around(segmentation) is None


@pytest.mark.parametrize("lost", [{"image_id": [12]}, {"image_id": None}, None], ids=repr)
def test_an_object_of_nobody_knows_which_image_leaves_no_background(tmp_path: Path, lost: Any) -> None:
    content = coco_content()
    *others, last = content["annotations"]  # the one object of image 12
    content["annotations"] = [*others, lost and {**last, **lost}]
    dataset = _load(tmp_path, content)
    assert [record.image_id for record in dataset.records] == [10, 11]
    assert _kinds(dataset) == ["unknown-image", "doubtful-background"]


def test_objects_of_images_that_are_not_listed_leave_the_background(tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"][-1]["image_id"] = 99  # as where someone removed images from the list alone
    assert [len(record.labels) for record in _load(tmp_path, content).records] == [2, 2, 0]


def test_when_no_annotation_finds_its_image_the_file_is_refused(tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"] = [annotation(n, f"{n:04d}", 7, [5, 6, 10, 12]) for n in (10, 11)]  # type: ignore[arg-type]
    with pytest.raises(FocusDetrError, match="none of its annotations .*'0010' .* 10 an id"):
        _load(tmp_path, content)

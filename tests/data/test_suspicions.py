"""What is suspicious about a whole data set is told with counts: classes, boxes, pictures there twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from focus_detr.data import load_dataset
from focus_detr.data.suspicions import same_pictures, suspicions
from helpers.tiny_datasets import coco_content, write_coco, write_image, write_yolo


def _load(root: Path, content: dict[str, Any]) -> Any:
    write_coco(root / "instances_train.json", root / "train", content)
    return load_dataset(root, on_problem="raise")


def _said(dataset: Any) -> dict[str, str]:
    return {problem.kind: problem.message for problem in suspicions(dataset)}


def test_an_ordinary_data_set_raises_none(tmp_path: Path) -> None:
    dataset = _load(tmp_path, coco_content())
    assert suspicions(dataset) == [] and same_pictures({"train": dataset}) == {"train": []}


def test_classes_without_an_object_are_counted(tmp_path: Path) -> None:
    content = coco_content()
    content["categories"] += [{"id": 100 + i, "name": f"kind {i}"} for i in range(20)]
    message = _said(_load(tmp_path, content))["unused-classes"]
    assert message.startswith("20 of 22 classes have no object in 'train': kind 0, ") and "10 more" in message


def test_classes_that_are_one_a_picture_are_counted(tmp_path: Path) -> None:
    content = coco_content(6)
    content["categories"] = [{"id": i, "name": f"47.{i} N"} for i in range(6)]
    content["annotations"] = content["annotations"][::2]
    for number, each in enumerate(content["annotations"]):
        each["category_id"] = number
    assert "6 of 6 classes are in one picture each" in _said(_load(tmp_path, content))["one-picture-classes"]
    for each in content["annotations"]:
        each["category_id"] //= 2
    assert "one-picture-classes" not in _said(_load(tmp_path, content))


@pytest.mark.parametrize("relative", [False, True])
def test_boxes_around_whole_pictures_are_counted(tmp_path: Path, relative: bool) -> None:
    if relative:
        root = write_yolo(tmp_path)
        (root / "labels" / "train" / "0.txt").write_text("0 .5 .5 .99 .99\n1 .5 .5 .1 .1\n")
        assert "1 of 1 picture has a box over 95%" in _said(load_dataset(root))["boxes-fill-pictures"]
        return
    content = coco_content(3)
    for each in content["annotations"][:3]:
        each["bbox"] = [0, 0, 40, 29]
    assert "2 of 3 pictures" in _said(_load(tmp_path, content))["boxes-fill-pictures"]
    content["annotations"][2]["bbox"] = [0, 0, 40, 20]
    assert "boxes-fill-pictures" not in _said(_load(tmp_path, content))


def test_pictures_of_two_splits_are_found_by_file_and_by_content(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_coco(tmp_path / f"instances_{split}.json", tmp_path / "images")  # one folder: the same files
    splits = {name: load_dataset(tmp_path, name) for name in ("train", "val")}
    [problem] = same_pictures(splits)["val"]
    assert (
        problem.kind == "picture-in-two-splits"
        and "3 pictures are also in the split 'train'" in problem.message
    )
    assert same_pictures(splits)["train"] == []

    root = write_yolo(tmp_path / "yolo")
    for picture in ("train/0", "train/1", "val/2"):
        write_image(root / "images" / f"{picture}.png", seed=hash(picture) % 97)
    (root / "images" / "val" / "2.png").write_bytes((root / "images" / "train" / "0.png").read_bytes())
    found = same_pictures({name: load_dataset(root, name) for name in ("train", "val")})
    assert [problem.kind for problem in found["val"]] == ["picture-in-two-splits"] and found["train"] == []


def test_byte_identical_pictures_of_a_split_are_counted(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content(4))
    for number in (1, 3):
        shutil.copy(tmp_path / "train" / "0.png", tmp_path / "train" / f"{number}.png")
    [problem] = same_pictures({"train": load_dataset(tmp_path)})["train"]
    assert problem.kind == "identical-pictures" and problem.message.startswith("2 pictures are byte for byte")

"""Numbers, ids and flags are read as tools write them; what is none is a problem, never a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from focus_detr.data import load_dataset
from focus_detr.data.formats.values import id_key, number, positive, size, whole_id
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import annotation, coco_content, voc_xml, write_coco, write_voc, write_yolo

NO_IDS = [[1], {"a": 1}, True, None, 1e400, float("nan"), 10**60, 1.5, " "]


def _kinds(dataset: Any) -> list[str]:
    return [problem.kind for problem in dataset.problems]


@pytest.mark.parametrize(
    ("value", "read"),
    [(3, 3), (2.5, 2.5), ("7", 7), (" 2.5 ", 2.5), ("20,5", 20.5), ("1e3", 1000), (1e400, float("inf"))],
)
def test_numbers(value: Any, read: float) -> None:
    assert number(value) == read


@pytest.mark.parametrize("value", [True, None, [], {}, "", "a", "1,000.5", "1,2,3", 10**400, "0x10"])
def test_what_is_no_number(value: Any) -> None:
    assert number(value) is None and positive(value) is None


def test_sizes_and_ids() -> None:
    assert size(40, "30.0") == (40, 30)
    assert size(0, 30) is size(-1, 5) is size(None, 3) is size(float("inf"), 3) is size(0.5, 9) is None
    assert id_key(7) == id_key("7") == id_key(7.0) == id_key(" 7 ") == "7" != id_key("07")
    assert all(id_key(value) is None for value in NO_IDS)
    assert whole_id("12") == 12 and whole_id("-3") == -3
    assert whole_id("cam-1") is whole_id(2**60) is whole_id("007") is None


@pytest.mark.parametrize("value", NO_IDS, ids=repr)
@pytest.mark.parametrize("key", ["image_id", "category_id", "id"])
def test_an_annotation_whose_id_is_none_is_a_problem(tmp_path: Path, key: str, value: Any) -> None:
    content = coco_content()
    content["annotations"][0][key] = value
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    wanted = {"image_id": "unknown-image", "category_id": "unknown-class", "id": "bad-id"}[key]
    assert _kinds(dataset) == ([] if key == "id" and value is None else [wanted])
    assert sum(dataset.class_counts().values()) == (5 if key == "id" else 4) and len(dataset) == 3
    if dataset.problems:
        assert "instances_train.json" in dataset.problems[0].file
        assert re.search(r"first (is )?annotations\[0\]", dataset.problems[0].message)


@pytest.mark.parametrize("value", NO_IDS, ids=repr)
def test_an_image_or_category_whose_id_is_none(tmp_path: Path, value: Any) -> None:
    content = coco_content()
    content["images"][0]["id"] = value
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert len(dataset) == 2 and _kinds(dataset) == ["bad-image-entry", "unknown-image"]
    content = coco_content()
    content["categories"][0]["id"] = value
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    with pytest.raises(FocusDetrError, match="whole-number 'id'"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("form", [str, float])
def test_ids_written_as_text_or_fractions_are_the_same_ids(tmp_path: Path, form: Any) -> None:
    content = coco_content()
    for each in content["annotations"]:
        each["image_id"], each["category_id"] = form(each["image_id"]), form(each["category_id"])
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="raise")
    assert [len(record.labels) for record in dataset.records] == [2, 2, 1]
    for image, category in zip(content["images"], content["categories"], strict=False):
        image["id"], category["id"] = str(image["id"]), str(category["id"])
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="raise")
    assert [record.image_id for record in dataset.records] == [10, 11, 12] and dataset.category_ids == [3, 7]


ABSURD_NAMES = ["x" * 4000 + ".png", "\ud800.png", "a\0b.png", "a/" * 2000 + "b.png", "\x1b[2J.png"]


@pytest.mark.parametrize("name", ABSURD_NAMES, ids=["long", "surrogate", "nul", "deep", "escape"])
def test_absurd_file_names_are_missing_images(tmp_path: Path, name: str) -> None:
    content = coco_content()
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    content["images"][1]["file_name"] = name
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert len(dataset) == 2 and _kinds(dataset) == ["missing-image"]
    shown = str(dataset.problems[0])
    assert len(shown) < 2000 and shown.isprintable() and shown.encode()
    content["images"] = [content["images"][1]]
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    with pytest.raises(FocusDetrError, match="none of its images found"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "bbox", [[1, 2, 10**400, 4], [1, 2, 1e400, 4], ["1", "2", "x", 4], [True, 1, 2, 3], 7, {}]
)
def test_boxes_that_are_no_numbers_take_their_image_with_them(tmp_path: Path, bbox: Any) -> None:
    content = coco_content()
    content["annotations"][4]["bbox"] = bbox  # the only object of the last image
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert [record.image_id for record in dataset.records] == [10, 11]
    assert sorted(_kinds(dataset)) == ["bad-box", "no-usable-object"]


@pytest.mark.parametrize(
    ("changes", "box"),
    [
        ({"bbox": ["5", "6", "10,0", " 12 "]}, [5, 6, 15, 18]),
        ({"bbox": [15, 18, -10, -12]}, [5, 6, 15, 18]),
        ({"bbox": None, "segmentation": [[5, 6, 15, 6, 15, 18], [7, 7, 8, 8, 9, 7]]}, [5, 6, 15, 18]),
        ({"bbox": [], "segmentation": [5, 6, 15, 6, 15, 18]}, [5, 6, 15, 18]),
    ],
)
def test_boxes_that_can_be_understood_are(tmp_path: Path, changes: dict[str, Any], box: list[float]) -> None:
    content = coco_content()
    content["annotations"][4].update(changes)
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert dataset.records[2].boxes_xyxy.tolist() == [box]
    assert all(problem.severity == "warning" for problem in dataset.problems)


def test_boxes_in_fractions_are_told_from_pixels(tmp_path: Path) -> None:
    content = coco_content()
    for each in content["annotations"]:
        each["bbox"] = [value / 40 for value in each["bbox"]]
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    with pytest.raises(FocusDetrError, match=r"5 of 5 boxes lie within 0..1.*multiply"):
        load_dataset(tmp_path)
    content = coco_content()
    content["annotations"][4]["bbox"] = [0.1, 0.2, 0.3, 0.4]
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert _kinds(dataset) == ["fraction-box", "no-usable-object"] and len(dataset) == 2


def test_voc_boxes_in_fractions_are_no_boxes(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(voc_xml([("dog", 0.1, 0.2, 0.5, 0.6)]))
    dataset = load_dataset(root, on_problem="ignore")
    assert _kinds(dataset) == ["fraction-box", "no-usable-object"] and len(dataset) == 1


@pytest.mark.parametrize(
    ("value", "objects"), [("0", 5), ("false", 5), ("", 5), (None, 5), (0.0, 5), ("1", 4), (True, 4)]
)
def test_iscrowd_as_text(tmp_path: Path, value: Any, objects: int) -> None:
    content = coco_content()
    content["annotations"][0]["iscrowd"] = value
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="raise")
    assert sum(dataset.class_counts().values()) == objects


@pytest.mark.parametrize("value", ["no", 2, [0], {}, float("nan")])
def test_iscrowd_that_is_neither_is_said(tmp_path: Path, value: Any) -> None:
    content = coco_content()
    content["annotations"][0]["iscrowd"] = value
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert _kinds(dataset) == ["bad-iscrowd"] and sum(dataset.class_counts().values()) == 5


def test_crowds_everywhere_are_objects_where_asked_and_else_refused(tmp_path: Path) -> None:
    content = coco_content()
    for each in content["annotations"]:
        each["iscrowd"] = 1
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    with pytest.raises(
        FocusDetrError, match="all 5 annotations have iscrowd 1.*--crowds objects.*crowds='objects'"
    ):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, crowds="objects", on_problem="raise")
    assert sum(dataset.class_counts().values()) == 5 and not any(len(r.ignored) for r in dataset.records)
    content["annotations"][0]["iscrowd"] = 0
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    assert _kinds(load_dataset(tmp_path, on_problem="ignore")) == ["mostly-crowds"]
    with pytest.raises(FocusDetrError, match="crowds='people'"):
        load_dataset(tmp_path, crowds="people")


def test_an_object_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"].append({**content["annotations"][4], "id": 99})
    write_coco(tmp_path / "coco" / "instances_train.json", tmp_path / "coco" / "train", content)
    voc, yolo = write_voc(tmp_path / "voc"), write_yolo(tmp_path / "yolo")
    (voc / "Annotations" / "a.xml").write_text(voc_xml([("dog", 2, 2, 9, 9)] * 3))
    (yolo / "labels" / "train" / "0.txt").write_text("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n")
    for folder, objects in ((tmp_path / "coco", 5), (voc, 2), (yolo, 2)):
        dataset = load_dataset(folder, on_problem="ignore")
        assert _kinds(dataset) == ["duplicate-object"] and sum(dataset.class_counts().values()) == objects


VOC_OBJECTS = {
    "decimal comma": (
        "<bndbox><xmin>6,0</xmin><ymin>7,0</ymin><xmax>15,0</xmax><ymax>18,0</ymax></bndbox>",
        [],
    ),
    "swapped": (
        "<bndbox><xmin>15</xmin><ymin>18</ymin><xmax>6</xmax><ymax>7</ymax></bndbox>",
        ["swapped-corners"],
    ),
    "rotated": (
        "<robndbox><cx>10</cx><cy>12</cy><w>12</w><h>10</h><angle>1.5707963267948966</angle></robndbox>",
        ["rotated-box"],
    ),
    "polygon": ("<polygon><x1>5</x1><y1>6</y1><x2>15</x2><y2>6</y2><x3>15</x3><y3>18</y3></polygon>", []),
    "points": (
        "<polygon><pt><x>5</x><y>6</y></pt><pt><x>15</x><y>6</y></pt><pt><x>15</x><y>18</y></pt></polygon>",
        [],
    ),
}


@pytest.mark.parametrize("kind", VOC_OBJECTS)
def test_voc_boxes_in_other_words(tmp_path: Path, kind: str) -> None:
    inside, problems = VOC_OBJECTS[kind]
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(
        f'<annotation xmlns="urn:x"><object><name>dog</name>{inside}</object></annotation>'
    )
    dataset = load_dataset(root, on_problem="ignore")
    assert dataset.records[0].boxes_xyxy.round(4).tolist() == [[5, 6, 15, 18]] and _kinds(dataset) == problems


def test_images_whose_objects_are_all_lost_are_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(voc_xml([("dog", "x", 2, 9, 9)]))
    dataset = load_dataset(root, on_problem="ignore")
    assert [record.path.stem for record in dataset.records] == ["b"]
    assert _kinds(dataset) == ["bad-box", "no-usable-object"]
    (root / "Annotations" / "a.xml").write_text(voc_xml([]))  # of no object at all, it is background
    assert len(load_dataset(root, on_problem="raise")) == 2
    (root / "labels.txt").write_text("bird\ncat\n")
    (root / "Annotations" / "a.xml").write_text(voc_xml([("dog", 2, 2, 9, 9)]))
    assert [r.path.stem for r in load_dataset(root, on_problem="ignore").records] == ["b"]
    # Classes that were not asked for are no objects here: their images are background by intent.
    (root / "labels.txt").unlink()
    assert len(load_dataset(root, classes=["cat"], on_problem="ignore")) == 2


def test_class_names_reach_no_message_as_they_are(tmp_path: Path) -> None:
    content = coco_content()
    for category in content["categories"]:
        category["name"] = f"\x1b[31m{category['name']}\nerror: gone" + "x" * 70_000
    content["annotations"].append(annotation(50, 10, 3, [1, 1, 0, 0]))
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert dataset.summary().isprintable() and len(dataset.summary()) < 3000
    with pytest.raises(FocusDetrError) as refused:
        load_dataset(tmp_path, classes=["cat"])
    assert "\x1b" not in str(refused.value) and len(str(refused.value)) < 3000


def test_thousands_of_unknown_classes_are_one_problem(tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"] += [annotation(100 + i, 10, 100 + i % 50, [1, 1, 5, 5]) for i in range(5000)]
    write_coco(tmp_path / "coco" / "instances_train.json", tmp_path / "coco" / "train", content)
    root = write_voc(tmp_path / "voc")
    (root / "labels.txt").write_text("dog\ncat\n")
    (root / "Annotations" / "a.xml").write_text(voc_xml([(f"d{i}", 2, 2, 9, 9) for i in range(500)]))
    [problem] = load_dataset(tmp_path / "coco", on_problem="ignore").problems
    assert problem.message.endswith("40 more") and "100 (100 times, first annotations[5])" in problem.message
    [problem, _] = load_dataset(root, on_problem="ignore").problems
    assert problem.kind == "unknown-class" and "'d0' (1 time, first object 1)" in problem.message

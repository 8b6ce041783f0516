"""What is wrong with a data set is said once, with file and fix; one bad file never stops a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from focus_detr.data import DetectionDataset, TransformedDataset, build_transforms, load_dataset
from focus_detr.data.cleaning import clean_records
from focus_detr.data.formats.source import ProblemLog, RawBox, RawImage, Source
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import (
    annotation,
    coco_content,
    voc_xml,
    write_coco,
    write_image,
    write_voc,
    write_yolo,
)


def load_coco(tmp_path: Path, content: dict[str, Any], **options: Any) -> DetectionDataset:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    return load_dataset(tmp_path, on_problem="ignore", **options)


def kinds(dataset: DetectionDataset) -> list[tuple[str, str]]:
    for problem in dataset.problems:
        assert problem.file and problem.message and problem.fix
    return [(problem.kind, problem.severity) for problem in dataset.problems]


def boxes(dataset: DetectionDataset) -> int:
    return sum(dataset.class_counts().values())


BAD_BOXES = {
    "clipped": ([-9, 6, 20, 12], "box-clipped", "warning", 1),
    "zero width": ([5, 6, 0, 12], "empty-box", "error", 0),
    "negative height": ([5, 6, 10, -3], "swapped-corners", "warning", 1),
    "not a number": ([5, 6, float("nan"), 3], "bad-box", "error", 0),
    "infinite": ([5, 6, float("inf"), 3], "bad-box", "error", 0),
    "elsewhere": ([50, 6, 10, 10], "box-outside", "error", 0),
    "text": (["a", 6, 10, 10], "bad-box", "error", 0),
    "three numbers": ([5, 6, 10], "bad-box", "error", 0),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_bad_boxes(tmp_path: Path, case: str) -> None:
    bbox, kind, severity, kept = BAD_BOXES[case]
    content = coco_content(1)
    content["annotations"].append({**annotation(9, 10, 3, [0, 0, 1, 1]), "bbox": bbox})
    dataset = load_coco(tmp_path, content)
    assert kinds(dataset) == [(kind, severity)] and boxes(dataset) == 1 + kept
    sample = dataset[0]
    assert (sample.boxes_xyxy >= 0).all() and (sample.boxes_xyxy <= [40, 30, 40, 30]).all()


def test_rounding_beyond_the_edge_is_no_problem(tmp_path: Path) -> None:
    content = coco_content(1)
    content["annotations"][0]["bbox"] = [-0.4, 20, 40.9, 10.3]
    dataset = load_coco(tmp_path, content)
    assert dataset.problems == [] and dataset[0].boxes_xyxy.tolist() == [[0, 20, 40, 30]]


@given(st.lists(st.tuples(*[st.floats(width=64) | st.floats(-50, 90)] * 4), max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_the_numbers_training_sees_boxes_inside_with_an_area(
    tmp_path_factory: pytest.TempPathFactory, coordinates: list[tuple[float, ...]], relative: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "one.png"
    if not path.exists():
        write_image(path)
    image = RawImage(path, boxes=[RawBox(xyxy, 0) for xyxy in coordinates], relative=relative)
    records = clean_records(Source({0: "cat"}, [image]), {0: 0}, "headers", ProblemLog())
    if not records:  # all were unusable: no background
        assert coordinates
        return
    (record,) = records
    left, top, right, bottom = record.boxes_xyxy.T
    assert (left >= 0).all() and (top >= 0).all() and (right <= 40).all() and (bottom <= 30).all()
    assert (right > left).all() and (bottom > top).all() and len(record.labels) == len(left)


def test_ids_and_names_used_twice(tmp_path: Path) -> None:
    content = coco_content(3)
    content["images"] += [{**content["images"][0], "file_name": "3.png"}, {**content["images"][1], "id": 99}]
    content["annotations"] += [content["annotations"][0], annotation(2, 12, 3, [1, 1, 5, 5])]
    dataset = load_coco(tmp_path, content)
    assert kinds(dataset) == [
        ("duplicate-image-id", "error"),
        ("duplicate-image-name", "error"),
        ("duplicate-annotation-id", "error"),
        ("duplicate-annotation-id", "warning"),
    ]
    assert len(dataset) == 3 and boxes(dataset) == 6


def test_objects_of_a_file_listed_twice_are_put_together(tmp_path: Path) -> None:
    """In halves, each half would teach that the other's objects are background."""
    content = coco_content(2)
    content["images"].append({**content["images"][0], "id": 99})
    content["annotations"][1]["image_id"] = 99
    dataset = load_coco(tmp_path, content)
    assert kinds(dataset) == [("duplicate-image-name", "error")]
    assert sorted(dataset.records[0].labels.tolist()) == [0, 1] and len(dataset) == 2


@pytest.mark.parametrize("name", ["", "  ", None, 5])
def test_categories_without_a_name_are_refused(tmp_path: Path, name: object) -> None:
    content = coco_content(2)
    content["categories"][0]["name"] = name
    with pytest.raises(FocusDetrError, match="a text 'name'"):
        load_coco(tmp_path, content)


def test_one_id_for_two_categories_is_refused(tmp_path: Path) -> None:
    content = coco_content(2)
    content["categories"].append({"id": 7, "name": "bird"})
    with pytest.raises(FocusDetrError, match="category 7 is both 'dog' and 'bird'"):
        load_coco(tmp_path, content)


def test_names_that_differ_in_spaces_are_one(tmp_path: Path) -> None:
    content = coco_content(2)
    content["categories"].append({"id": 8, "name": " dog "})
    content["annotations"][0]["category_id"] = 8
    dataset = load_coco(tmp_path, content)
    assert dataset.class_names == ["cat", "dog"] and dataset.class_counts() == {"cat": 1, "dog": 2}


def test_annotations_of_what_is_not_listed(tmp_path: Path) -> None:
    content = coco_content(2)
    content["annotations"] += [annotation(8, 10, 55, [1, 1, 5, 5]), annotation(9, 777, 3, [1, 1, 5, 5])]
    dataset = load_coco(tmp_path, content)
    assert sorted(kinds(dataset)) == [("unknown-class", "error"), ("unknown-image", "error")]
    assert boxes(dataset) == 3 and any("55" in problem.message for problem in dataset.problems)


def test_categories_listed_twice_and_roboflow_parent(tmp_path: Path) -> None:
    content = coco_content(2)
    content["categories"] = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 3, "name": "cat", "supercategory": "animals"},
        {"id": 7, "name": "dog", "supercategory": "animals"},
        {"id": 9, "name": "dog", "supercategory": "animals"},
    ]
    content["annotations"][0]["category_id"] = 9
    dataset = load_coco(tmp_path, content)
    assert dataset.class_names == ["cat", "dog"] and kinds(dataset) == [("duplicate-category", "warning")]
    assert dataset.class_counts() == {"cat": 1, "dog": 2}


def test_missing_and_damaged_images_are_left_out(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content(4))
    (tmp_path / "train" / "1.png").unlink()
    (tmp_path / "train" / "2.png").write_bytes(b"not an image")
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert [record.image_id for record in dataset.records] == [10, 13]
    assert kinds(dataset) == [("missing-image", "error"), ("unreadable-image", "error")]
    assert "1.png" in dataset.problems[0].file and "2.png" in dataset.problems[1].file


def test_cut_short_images_are_found_when_asked_or_replaced_when_met(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content(3, 200, 200))
    path = tmp_path / "train" / "2.png"
    path.write_bytes(path.read_bytes()[:-60])
    found = load_dataset(tmp_path, on_problem="ignore", check_images="decode")
    assert len(found) == 2 and kinds(found) == [("unreadable-image", "error")]

    dataset = load_dataset(tmp_path, on_problem="raise")  # the header is whole
    with caplog.at_level(logging.WARNING):
        assert [dataset[2].image_id for _ in range(3)] == [10, 10, 10]
    assert kinds(dataset) == [("unreadable-image", "error")] and len(caplog.records) == 1
    assert "2.png" in caplog.text
    with pytest.raises(FocusDetrError, match="2.png"):
        dataset.read(2)
    augmented = TransformedDataset(dataset, build_transforms("small-data", size=20, mosaic=1.0))
    assert len([augmented[i] for i in range(3)]) == 3


def test_nothing_readable_is_an_error_not_a_loop(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    dataset = load_dataset(tmp_path)
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    with pytest.raises(FocusDetrError, match="none of the 3 images"):
        dataset[1]
    with pytest.raises(FocusDetrError, match="none of"):
        load_dataset(tmp_path)
    with pytest.raises(IndexError):
        dataset[3]


def test_sizes_that_are_not_those_of_the_image(tmp_path: Path) -> None:
    """The image as it is decides; a size from before the EXIF rotation is told apart from a wrong one."""
    content = coco_content(2)
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "train" / "0.png", exif=exif)
    Image.new("RGB", (25, 12)).save(tmp_path / "train" / "1.png")
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert kinds(dataset)[:2] == [("exif-rotation", "warning"), ("wrong-size", "warning")]
    assert dataset[0].orig_size == (40, 30) and dataset.records[0].size == (30, 40)
    assert (dataset[1].boxes_xyxy <= [25, 12, 25, 12]).all()

    late = load_dataset(tmp_path, on_problem="raise", check_images="none")
    assert (late[1].boxes_xyxy <= [25, 12, 25, 12]).all() and late[1].orig_size == (12, 25)
    assert kinds(late) == [("wrong-size", "warning")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not valid json"),
        ('{"images": [', "not valid json"),
        ("[]", "images, annotations, categories"),
        ('{"images": [], "annotations": []}', "categories missing"),
        (
            '{"images": [], "annotations": {}, "categories": []}',
            "annotations, categories|annotations missing",
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": "a"}]}', "whole-number 'id'"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}',
            "no usable image. It lists none",
        ),
    ],
)
def test_json_that_is_not_coco(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "instances_train.json").write_text(text)
    with pytest.raises(FocusDetrError, match=named):
        load_dataset(tmp_path)


def test_images_in_no_known_place(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "elsewhere" / "deep")
    with pytest.raises(FocusDetrError, match="none of its images found, 0.png"):
        load_dataset(tmp_path)


def test_voc_problems(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\na\ngone\nbroken\nodd\n")
    (root / "Annotations" / "broken.xml").write_text("")
    write_image(root / "JPEGImages" / "odd.jpg")
    odd = [("dog", 5, 5, 5, 5), ("dog", 2, "x", 4, 4), ("dog", 10, 10, 90, 20), ("dog", 3, 3, 9, 9)]
    (root / "Annotations" / "odd.xml").write_text(voc_xml(odd, 44, 33, "odd.jpg"))
    dataset = load_dataset(root, on_problem="ignore")
    assert sorted(kinds(dataset)) == [
        ("bad-annotation", "error"),
        ("bad-box", "error"),
        ("box-clipped", "warning"),
        ("duplicate-image-name", "warning"),
        ("empty-box", "error"),
        ("missing-annotation", "error"),
        ("wrong-size", "warning"),
    ]
    assert len(dataset) == 3 and dataset[2].boxes_xyxy.tolist() == [[9, 9, 40, 20], [2, 2, 9, 9]]
    (root / "labels.txt").write_text("dog\nbird\n")
    dataset = load_dataset(root, on_problem="ignore")
    assert dataset.class_names == ["dog", "bird"] and ("unknown-class", "error") in kinds(dataset)


def test_yolo_rows(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    rows = {
        "0 .5 .5 .2 .2": None,
        "1.0 .5 .5 .2 .2": None,
        "0 .1 .1 .3 .1 .3 .3": None,
        "5 .5 .5 .2 .2": "class-out-of-range",
        "-1 .5 .5 .2 .2": "class-out-of-range",
        "0 20 15 10 10": "label-out-of-range",
        "0 .5 .5 .2": "bad-label-row",
        "cat .5 .5 .2 .2": "bad-label-row",
        "0 .5 .5 0 .2": "empty-box",
        "0 nan .5 .1 .2": "bad-box",
        "0 .1 .5 .4 .2": "box-clipped",
    }
    (root / "labels" / "train" / "0.txt").write_text("\n".join(rows) + "\n\n")
    dataset = load_dataset(root, on_problem="ignore")
    assert {kind for kind, _ in kinds(dataset)} == {kind for kind in rows.values() if kind}
    sample = dataset[0]
    assert sample.labels.tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(sample.boxes_xyxy[2:], [[4, 3, 12, 9], [0, 12, 12, 18]], atol=1e-4)


def test_yolo_images_without_a_usable_row_are_no_background(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    before = len(load_dataset(root, on_problem="ignore"))
    (root / "labels" / "train" / "0.txt").write_text("0 20 15 10 10\ncat .5 .5 .2 .2\n")
    dataset = load_dataset(root, on_problem="ignore")
    assert len(dataset) == before - 1 and ("no-usable-object", "error") in kinds(dataset)
    assert all(record.path.stem != "0" for record in dataset.records)
    (root / "labels" / "train" / "0.txt").write_text("")  # of no object at all, it is
    assert len(load_dataset(root, on_problem="ignore")) == before
    for file in (root / "labels" / "train").iterdir():
        file.write_text("9 .5 .5 .2 .2\n")
    with pytest.raises(FocusDetrError, match="no usable image.*class-out-of-range"):
        load_dataset(root)


def test_a_missing_image_is_traced_to_the_list_that_names_it(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "train.txt").write_text("images/train/0.png\nimages/train/1.png\nimages/train/nope.png\n")
    text = (root / "data.yaml").read_text().replace("images/train", "train.txt")
    (root / "data.yaml").write_text(text)
    problems = load_dataset(root, on_problem="ignore").problems
    [missing] = [problem for problem in problems if problem.kind == "missing-image"]
    assert str(root / "train.txt") in missing.message


def test_yolo_without_labels(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "train" / "1.txt").unlink()
    dataset = load_dataset(root, on_problem="ignore")
    assert len(dataset) == 2 and kinds(dataset) == [("missing-annotation", "warning")]
    (root / "labels" / "train" / "0.txt").unlink()
    with pytest.raises(FocusDetrError, match="no label file found"):
        load_dataset(root)


def test_two_images_of_one_name(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo")
    write_image(root / "images" / "train" / "0.jpg")
    assert kinds(load_dataset(root, on_problem="ignore")) == [("duplicate-image-name", "warning")]
    root = write_voc(tmp_path / "voc")
    write_image(root / "JPEGImages" / "a.png")
    dataset = load_dataset(root, on_problem="ignore")
    assert kinds(dataset) == [("duplicate-image-name", "warning")] and dataset.records[0].path.name == "a.jpg"


def test_how_problems_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = coco_content(2)
    content["annotations"][0]["bbox"][2] = 0
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    seen: list[Any] = []
    assert load_dataset(tmp_path, on_problem=seen.append).problems == seen and len(seen) == 1
    assert caplog.text == ""
    dataset = load_dataset(tmp_path)
    assert len(caplog.records) == 1 and "empty-box" in caplog.text and "0.png" in caplog.text
    summary = dataset.summary()
    assert "\n" not in summary and "2 images, 2 boxes of 2 classes (cat 1, dog 1)" in summary
    with pytest.raises(FocusDetrError, match="empty-box"):
        load_dataset(tmp_path, on_problem="raise")


def test_arguments_that_cannot_be_meant(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    write_coco(tmp_path / "instances_val2017.json", tmp_path / "val2017")
    for split in ("test", "train+test"):
        with pytest.raises(FocusDetrError, match="'test' does not exist.*'train', 'val2017'"):
            load_dataset(tmp_path, split=split)
    for options, named in (
        ({"format": "tfrecord"}, "tfrecord.*yolo"),
        ({"on_problem": "shout"}, "shout"),
        ({"check_images": "all"}, "all"),
        ({"split": None}, "say which"),
        ({"classes": "cat"}, "list of names"),
        ({"classes": ["cat", "cat"]}, "given twice: cat"),
        ({"classes": {1: "cat"}}, "without gaps"),
        ({"format": "voc"}, "no data set found"),
    ):
        with pytest.raises(FocusDetrError, match=named):
            load_dataset(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(FocusDetrError, match="no such folder"):
        load_dataset(tmp_path / "absent")
    (tmp_path / "instances_train2014.json").write_text(json.dumps(coco_content()))
    (tmp_path / "instances_train.json").rename(tmp_path / "instances_train2017.json")
    with pytest.raises(FocusDetrError, match="could be train2014, train2017"):
        load_dataset(tmp_path, split="train")


@pytest.mark.parametrize("write", [write_voc, write_yolo])
def test_all_images_missing_is_refused(tmp_path: Path, write: Any) -> None:
    root = write(tmp_path)
    for path in [*root.rglob("*.jpg"), *root.rglob("*.png")]:
        path.rename(path.with_suffix(".missing"))
    with pytest.raises(FocusDetrError, match="none of the 2 images is there|no image in this folder"):
        load_dataset(root)


@pytest.mark.parametrize("layout", ["labels", "beside"])
def test_yolo_labels_whose_picture_is_lost_are_said(tmp_path: Path, layout: str) -> None:
    """Half a folder that was not copied would else be a smaller data set without a problem."""
    images = tmp_path / "images" / "train"
    labels = tmp_path / "labels" / "train" if layout == "labels" else images
    for stem in ("a", "b", "below/c"):
        write_image(images / f"{stem}.png")
        (labels / stem).parent.mkdir(parents=True, exist_ok=True)
        (labels / f"{stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (labels / "classes.txt").write_text("cat\n")
    (labels / "notes.txt").write_text("12 pictures, 3 of them dark, 2 4\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    assert kinds(load_dataset(tmp_path, on_problem="ignore")) == []
    (images / "b.png").unlink()
    (images / "below" / "c.png").unlink()
    dataset = load_dataset(tmp_path, on_problem="ignore")
    assert kinds(dataset) == [("missing-image", "error")] and len(dataset) == 1
    assert "2 label files have no picture" in dataset.problems[0].message

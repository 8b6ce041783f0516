"""Layouts of COCO, YOLO and VOC are recognised, and say the same through one DetectionDataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focus_detr.data import list_splits, load_dataset
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import NAMES, coco_content, voc_xml, write_coco, write_image, write_voc, write_yolo

COCO_LAYOUTS = {
    "official": ("annotations/instances_train2017.json", "train2017"),
    "images folder": ("annotations/instances_train2017.json", "images/train2017"),
    "roboflow": ("train/_annotations.coco.json", "train"),
    "flat": ("instances_train.json", "train"),
    "own json in own folder": ("train/annotations.json", "train/images"),
    "nested": ("inner/instances_train.json", "inner/train"),
}


@pytest.mark.parametrize("layout", COCO_LAYOUTS)
def test_coco_layouts(tmp_path: Path, layout: str) -> None:
    file, images = COCO_LAYOUTS[layout]
    write_coco(tmp_path / file, tmp_path / images)
    dataset = load_dataset(tmp_path, split="train")
    assert (dataset.format, len(dataset), dataset.problems) == ("coco", 3, [])
    assert dataset.class_names == ["cat", "dog"] and dataset.category_ids == [3, 7]
    sample = dataset[0]
    assert sample.image_id == 10 and sample.orig_size == (30, 40)
    np.testing.assert_array_equal(sample.boxes_xyxy, np.float32([[5, 6, 15, 18], [20, 10, 28, 15]]))
    assert sample.labels.tolist() == [1, 0]


def test_coco_single_json_is_one_split_named_all(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances.json", tmp_path / "images")
    assert list_splits(tmp_path) == ["all"]
    with pytest.raises(FocusDetrError, match="'train' does not exist.*'all'"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path, split="all")) == len(load_dataset(tmp_path, split=None)) == 3
    assert len(load_dataset(tmp_path / "instances.json", split=None)) == 3


def test_voc(tmp_path: Path) -> None:
    dataset = load_dataset(write_voc(tmp_path / "outer" / "VOC").parent)
    assert (dataset.format, dataset.class_names, len(dataset)) == ("voc", list(NAMES), 2)
    # VOC counts pixels from 1 and includes the last: 6..15 are ten pixels.
    assert dataset[0].boxes_xyxy.tolist() == [[5, 6, 15, 18]] and dataset[0].labels.tolist() == [1]
    assert dataset[1].boxes_xyxy.tolist() == [[0, 0, 40, 30]]


def test_yolo(tmp_path: Path) -> None:
    dataset = load_dataset(write_yolo(tmp_path))
    assert (dataset.format, dataset.class_names, len(dataset)) == ("yolo", list(NAMES), 2)
    np.testing.assert_allclose(dataset[0].boxes_xyxy, [[5, 6, 15, 18]], atol=1e-4)
    assert dataset[1].boxes_xyxy.shape == (0, 4) and dataset.problems == []


def test_joined_splits_keep_ids_unique(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    write_coco(tmp_path / "instances_val.json", tmp_path / "val")
    dataset = load_dataset(tmp_path, split="train+valid")
    assert dataset.split == "train+val" and len({record.image_id for record in dataset.records}) == 6
    assert len(load_dataset(write_voc(tmp_path / "voc"), split="train+val")) == 3


def test_classes_of_a_model_are_matched_by_name(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    for classes in (["zebra", "dog"], {0: "zebra", 1: "dog"}, {"0": "zebra", "1": "dog"}):
        dataset = load_dataset(tmp_path, classes=classes, on_problem="ignore")
        assert dataset.class_names == ["zebra", "dog"]
        assert dataset.category_ids[1] == 7 and dataset.category_ids[0] not in (3, 7)
        assert dataset[0].labels.tolist() == [1]
        assert [problem.kind for problem in dataset.problems] == ["unknown-class"]
    with pytest.raises(FocusDetrError, match="Dog.*cat, dog"):
        load_dataset(tmp_path, classes=["Dog"])


def test_to_coco_returns_what_was_read(tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"][0]["area"] = 77.5
    content["annotations"][1]["iscrowd"] = 1
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path)
    written = dataset.to_coco()
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    assert [[a[k] for k in keys] for a in written["annotations"]] == [
        [a[k] for k in keys] for a in content["annotations"]
    ]
    assert {image["id"]: (image["width"], image["height"]) for image in written["images"]} == {
        10: (40, 30),
        11: (40, 30),
        12: (40, 30),
    }
    assert written["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    assert dataset[0].labels.tolist() == [1] and dataset[0].ignored.tolist() == [[20, 10, 28, 15]]


def test_format_can_be_said_and_years_left_out(tmp_path: Path) -> None:
    write_coco(tmp_path / "annotations" / "instances_val2017.json", tmp_path / "val2017")
    assert list_splits(tmp_path) == ["val2017"]
    for name in ("val", "valid", "validation", "val2017"):
        assert len(load_dataset(tmp_path, split=name, format="coco")) == 3
    (tmp_path / "annotations" / "captions_val2017.json").write_text("{}")
    (tmp_path / "results.json").write_text('[{"image_id": 1}]')
    assert list_splits(tmp_path) == ["val2017"]


def test_image_ids_that_are_text_get_numbers(tmp_path: Path) -> None:
    content = coco_content()
    for image in content["images"]:
        image["id"] = f"photo-{image['id']}"
    for each in content["annotations"]:
        each["image_id"] = f"photo-{each['image_id']}"
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path)
    assert [record.image_id for record in dataset.records] == [1, 2, 3]
    assert [len(record.labels) for record in dataset.records] == [2, 2, 1]


_REST = "val: images/val\nnames: [cat, dog]\n"
YOLO_YAMLS = {
    "names as a map": "train: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n",
    "path of another machine": "path: ../datasets/gone\ntrain: images/train\n" + _REST,
    "path from the yaml's folder": "path: .\ntrain: images/train\nnc: 2\n" + _REST,
    "list of folders": "train: [images/train]\n" + _REST,
    "as Roboflow writes": "train: ../images/train\nval: ../images/val\nnames: ['cat', 'dog']\n",
    "list of images": "train: train.txt\n" + _REST,
}


@pytest.mark.parametrize("kind", YOLO_YAMLS)
def test_yolo_yamls(tmp_path: Path, kind: str) -> None:
    root = write_yolo(tmp_path / "inner", YOLO_YAMLS[kind])
    (root / "train.txt").write_text("./images/train/0.png\nimages/train/1.png\n")
    for path in (root, root / "data.yaml", tmp_path):
        dataset = load_dataset(path, on_problem="raise")
        assert (dataset.class_names, len(dataset)) == (["cat", "dog"], 2)
        assert [len(record.labels) for record in dataset.records] == [1, 0]
    assert len(load_dataset(root, split="train+val")) == 3


def test_yolo_labels_beside_images(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "0.png")
    (tmp_path / "train" / "0.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "data.yaml").write_text("train: train\nnames: [cat]\n")
    assert load_dataset(tmp_path)[0].boxes_xyxy.tolist() == [[10, 7.5, 30, 22.5]]


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        ("train: images/train\nnc: 3\nnames: [cat, dog]\n", "nc is 3 but 2 names"),
        ("train: images/train\nnames: {1: cat, 2: dog}\n", "map of 0, 1, 2"),
        ("train: images/gone\nnames: [cat, dog]\n", "images/gone"),
        ("train: labels/train\nnames: [cat, dog]\n", "no image in this folder"),
        ("train: {a: b}\nnames: [cat, dog]\n", "'train' must be a folder"),
        ("train: [\n", "not valid yaml"),
    ],
)
def test_yolo_yamls_that_cannot_be_used(tmp_path: Path, yaml: str, named: str) -> None:
    with pytest.raises(FocusDetrError, match=named):
        load_dataset(write_yolo(tmp_path, yaml))


def test_voc_without_lists_and_as_roboflow_writes(tmp_path: Path) -> None:
    whole = write_voc(tmp_path / "whole")
    for file in (whole / "ImageSets" / "Main").iterdir():
        file.unlink()
    assert list_splits(whole) == ["all"] and len(load_dataset(whole, split=None)) == 3
    for split, stem in (("train", "x"), ("valid", "y")):
        write_image(tmp_path / "flat" / split / f"{stem}.jpg")
        name = "dog" if split == "train" else "cat"
        (tmp_path / "flat" / split / f"{stem}.xml").write_text(voc_xml([(name, 2, 2, 9, 9)]))
    dataset = load_dataset(tmp_path / "flat", split="val")
    # Classes come from all splits: the same labels whichever is loaded.
    assert dataset.class_names == ["cat", "dog"] and dataset[0].labels.tolist() == [0]
    assert load_dataset(tmp_path / "flat", split="train")[0].labels.tolist() == [1]


def test_voc_lists_of_single_classes_are_no_splits(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "ImageSets" / "Main" / "dog_train.txt").write_text("a  1\nb -1\n")
    assert list_splits(root) == ["train", "val"]


def test_several_data_sets_in_one_folder_are_not_guessed_between(tmp_path: Path) -> None:
    write_voc(tmp_path / "one")
    write_yolo(tmp_path / "two")
    with pytest.raises(FocusDetrError, match="several data sets.*one.*two"):
        load_dataset(tmp_path)
    with pytest.raises(FocusDetrError, match="no data set found"):
        load_dataset(tmp_path / "one" / "JPEGImages")


def test_joined_splits_must_name_the_same_classes(tmp_path: Path) -> None:
    other = coco_content()
    other["categories"][0]["name"] = "wolf"
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    write_coco(tmp_path / "instances_val.json", tmp_path / "val", other)
    with pytest.raises(FocusDetrError, match="different classes.*wolf"):
        load_dataset(tmp_path, split="train+val")
    dataset = load_dataset(tmp_path, split="train+val", classes=["dog", "wolf", "cat"])
    assert dataset.class_counts() == {"dog": 3, "wolf": 3, "cat": 4}


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "instances_train.json", tmp_path / "train")
    write_coco(tmp_path / "train" / "annotations.json", tmp_path / "train")
    with pytest.raises(FocusDetrError, match="instances_train.json and train/annotations.json"):
        load_dataset(tmp_path)


def test_voc_file_names_that_lie_are_looked_up_by_stem(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(voc_xml([("dog", 2, 2, 9, 9)], filename="renamed.jpg"))
    assert load_dataset(root, on_problem="raise").records[0].path.name == "a.jpg"
    for file in (root / "Annotations").iterdir():
        file.write_text(voc_xml([]))
    with pytest.raises(FocusDetrError, match="no annotation names an object"):
        load_dataset(root)


def test_summary_of_many_classes_names_the_frequent(tmp_path: Path) -> None:
    content = coco_content()
    content["categories"] += [{"id": 100 + i, "name": f"kind {i}"} for i in range(20)]
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    summary = load_dataset(tmp_path).summary()
    assert "of 22 classes (dog 3, cat 2, kind 0 0" in summary and "12 more" in summary
    assert summary.endswith("No problems found.")

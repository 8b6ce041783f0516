"""Data sets as labelling tools and people on other systems leave them are read as they are meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from focus_detr.data import list_splits, load_dataset
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import coco_content, voc_xml, write_coco, write_image, write_voc, write_yolo

ROW = "0 .5 .5 .5 .5\n"


def _labels(path: Path, split: str | None = "train", **options: object) -> list[int]:
    """How many objects every image has."""
    return [len(record.labels) for record in load_dataset(path, split, **options).records]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("json_file", "images"),
    [
        ("labels.json", "data"),  # FiftyOne
        ("result.json", "images"),  # Label Studio
        ("annotations/instances_default.json", "images"),  # CVAT
        ("train/labels.json", "train/data"),
        ("annotations.json", "Images"),
    ],
)
def test_coco_layouts_of_tools(tmp_path: Path, json_file: str, images: str) -> None:
    write_coco(tmp_path / json_file, tmp_path / images)
    assert _labels(tmp_path, None, on_problem="raise") == [2, 2, 1]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("labels", "data"),
        ("annotations", "images"),
        ("xmls", "JPEGImages"),
        ("Annotations", "."),
        ("xml", "Images"),
    ],
)
def test_voc_layouts_of_tools(tmp_path: Path, annotations: str, images: str) -> None:
    for stem in ("0", "1"):
        write_image(tmp_path / images / f"{stem}.png")
        (tmp_path / annotations).mkdir(exist_ok=True)
        (tmp_path / annotations / f"{stem}.xml").write_text(
            voc_xml([("cat", 2, 2, 9, 9)], filename=f"{stem}.png")
        )
    assert _labels(tmp_path, None, on_problem="raise") == [1, 1]


def test_voc_splits_that_are_folders_of_folders(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            write_image(tmp_path / split / "images" / f"{number}.png", seed=number)
            (tmp_path / split / "annotations").mkdir(exist_ok=True)
            (tmp_path / split / "annotations" / f"{number}.xml").write_text(voc_xml([("cat", 2, 2, 9, 9)]))
    assert _labels(tmp_path, "train", on_problem="raise") == [1, 1] and _labels(tmp_path, "val") == [1]


FOREIGN = {
    "windows": "images\\{}",
    "drive": "C:\\Users\\me\\data\\images\\{}",
    "share": "\\\\server\\share\\images\\{}",
    "label studio": "../../label-studio/data/media/upload/4/{}",
    "absolute": "/home/someone/data/images/{}",
    "file url": "file:///home/someone/{}",
    "mixed": "D:/data\\{}",
    "web address": "https://example.org/images/{}",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_coco_pictures_under_names_of_another_machine(tmp_path: Path, kind: str) -> None:
    content = coco_content()
    write_coco(tmp_path / "result.json", tmp_path / "images", content)
    for image in content["images"]:
        image["file_name"] = FOREIGN[kind].format(image["file_name"])
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert _labels(tmp_path, None, on_problem="raise") == [2, 2, 1]


@pytest.mark.parametrize("kind", FOREIGN)
def test_yolo_lists_and_folders_of_another_machine(tmp_path: Path, kind: str) -> None:
    root = write_yolo(tmp_path, "train: train.txt\nnames: [cat, dog]\n")
    names = [FOREIGN[kind].format(f"train{separator}{n}.png") for separator in "\\/" for n in (0, 1)]
    (root / "train.txt").write_text("\n".join(names))
    assert _labels(root, on_problem="raise") == [1, 0]
    (root / "data.yaml").write_text(f"train: '{FOREIGN[kind].format('train')}'\nnames: [cat, dog]\n")
    assert _labels(root, on_problem="raise") == [1, 0]


def test_folders_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    """Where the folders of the names are there, they count."""
    content = coco_content()
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"cam{number}\\0.png"
    posix = json.loads(json.dumps(content).replace("\\\\", "/"))
    write_coco(tmp_path / "result.json", tmp_path / "images", posix)
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert [r.path.parent.name for r in load_dataset(tmp_path, None).records] == ["cam0", "cam1", "cam2"]
    for number in range(3):
        shutil.move(tmp_path / "images" / f"cam{number}" / "0.png", tmp_path / "images" / "0.png")
    dataset = load_dataset(tmp_path, None, on_problem="ignore")
    assert len(dataset) == 1 and "duplicate-image-name" in {problem.kind for problem in dataset.problems}


def _write_cvat_voc(root: Path) -> None:
    stems = [f"{camera}/{number}" for camera in ("cam1", "cam2") for number in (0, 1)]
    for seed, stem in enumerate(stems):
        write_image(root / "JPEGImages" / f"{stem}.png", seed=seed)
        file = root / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(voc_xml([("cat", 2, 2, 9, 9)] * (1 + seed // 2), filename=f"{stem}.png"))
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "default.txt").write_text("\n".join(stems))


@pytest.mark.parametrize(
    "rows", ["{}", '"{}"', "{}.png", "JPEGImages/{}.png", "C:\\data\\JPEGImages\\{}.png", None]
)
def test_voc_in_subfolders(tmp_path: Path, rows: str | None) -> None:
    _write_cvat_voc(tmp_path)
    listing = tmp_path / "ImageSets" / "Main" / "default.txt"
    if rows is None:
        listing.unlink()
    else:
        listing.write_text("\n".join(rows.format(stem) for stem in listing.read_text().split()))
    (tmp_path / "classes.txt").write_text("cat\n")
    dataset = load_dataset(tmp_path, None, on_problem="ignore")
    assert [record.path.parent.name for record in dataset.records] == ["cam1", "cam1", "cam2", "cam2"]
    assert {problem.kind for problem in dataset.problems} == {"duplicate-object"}


def test_voc_lists_of_names_that_end_like_those_of_classes(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / "JPEGImages" / f"scan {number}.png")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"scan {number}.xml").write_text(voc_xml([("cat", 2, 2, 9, 9)]))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("scan 0\nscan 1\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text('"scan 2"\n"scan 3"\n')
    assert _labels(tmp_path, "train", on_problem="raise") == _labels(tmp_path, "val") == [1, 1]


def test_voc_with_lists_of_classes_alone(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    for file in (root / "ImageSets" / "Main").iterdir():
        file.unlink()
    for name in ("cat", "big_dog"):
        (root / "ImageSets" / "Main" / f"{name}_train.txt").write_text("a.jpg 1\nb.jpg -1\n")
        (root / "ImageSets" / "Main" / f"{name}_val.txt").write_text("c.jpg  0\n")
    assert list_splits(root) == ["train", "val"]
    assert _labels(root, "train") == [1, 1] and _labels(root, "val") == [2]


def test_voc_pictures_renamed_after_labelling(tmp_path: Path) -> None:
    """The picture with the annotation's own name is its picture, also where `<filename>` names another."""
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(voc_xml([("dog", 2, 2, 9, 9)], filename="b.jpg"))
    dataset = load_dataset(root, on_problem="ignore")
    assert [record.path.name for record in dataset.records] == ["a.jpg", "b.jpg"]
    assert [problem.kind for problem in dataset.problems] == ["stale-filename"]
    (root / "JPEGImages" / "a.jpg").rename(root / "JPEGImages" / "photo.jpg")
    (root / "Annotations" / "a.xml").write_text(voc_xml([("dog", 2, 2, 9, 9)], filename="photo.jpg"))
    assert [r.path.name for r in load_dataset(root, on_problem="raise").records] == ["photo.jpg", "b.jpg"]


@pytest.mark.parametrize("inside", ["images/mine", "mine", "images/images", "JPEGImages"])
def test_yolo_labels_next_to_pictures(tmp_path: Path, inside: str) -> None:
    root = tmp_path / inside
    for number in range(2):
        write_image(root / "train" / f"{number}.png", seed=number)
        (root / "train" / f"{number}.txt").write_text(ROW)
    (root / "data.yaml").write_text("train: train\nnames: [cat]\n")
    assert _labels(root, on_problem="raise") == [1, 1]


def test_yolo_labels_half_beside_half_in_their_folder(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "train" / "1.txt").unlink()
    (root / "images" / "train" / "1.txt").write_text(ROW)
    assert _labels(root, on_problem="raise") == [1, 1]


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("[1, 2]", ".45 .45"),
        ("[2, 2]", ".45 .45 .55 .5"),
        ("[2, 3]", ".1 .1 2 .9 .9 0"),
        ("[17, 3]", " ".join([".1 .1 1"] * 17)),
    ],
)
def test_rows_with_keypoints_give_the_box_of_the_row(tmp_path: Path, shape: str, row: str) -> None:
    root = write_yolo(tmp_path, f"train: images/train\nnames: [cat, dog]\nkpt_shape: {shape}\n")
    (root / "labels" / "train" / "0.txt").write_text(f"0 .5 .5 .2 .2 {row}\n1 .5 .5 .4 .4\n")
    boxes = load_dataset(root, on_problem="raise").records[0].boxes_xyxy.round(3).tolist()
    assert boxes == [[16, 12, 24, 18], [12, 9, 28, 21]]
    (root / "labels" / "train" / "0.txt").write_text(f"0 .5 .5 .2 .2 {row} .1 .1 .1 .1\n")
    dataset = load_dataset(root, on_problem="ignore")
    assert "bad-label-row" in {problem.kind for problem in dataset.problems} and len(dataset) == 1


def test_rows_that_look_like_keypoints_without_a_shape_are_refused(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "train" / "0.txt").write_text("0 .5 .5 .2 .2 .45 .45 1 .55 .5 1\n")
    dataset = load_dataset(root, on_problem="ignore")
    assert [r.path.stem for r in dataset.records] == ["1"] and "kpt_shape" in dataset.problems[0].fix
    # A closed polygon in the picture's corner has zeros at the same places.
    (root / "labels" / "train" / "0.txt").write_text("0 0 0 .5 0 .5 .4 0 .4 0 0\n")
    assert load_dataset(root, on_problem="raise").records[0].boxes_xyxy.round(3).tolist() == [[0, 0, 20, 12]]


def _write_labelled(folder: Path, labels: Path) -> None:
    for number in range(2):
        write_image(folder / f"{number}.png", seed=number)
        labels.mkdir(parents=True, exist_ok=True)
        (labels / f"{number}.txt").write_text(ROW)


def test_yolo_by_its_list_of_classes(tmp_path: Path) -> None:
    _write_labelled(tmp_path / "labelimg", tmp_path / "labelimg")
    (tmp_path / "labelimg" / "classes.txt").write_text("cat\ndog\n")
    _write_labelled(tmp_path / "studio" / "images", tmp_path / "studio" / "labels")
    (tmp_path / "studio" / "classes.txt").write_text("cat\n")
    (tmp_path / "studio" / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}]}')
    for name in ("labelimg", "studio"):
        dataset = load_dataset(tmp_path / name, None, on_problem="raise")
        assert (dataset.format, dataset.split, len(dataset)) == ("yolo", "all", 2)
        assert [record.labels.tolist() for record in dataset.records] == [[0], [0]]
    for split in ("train", "val"):
        _write_labelled(tmp_path / "split" / "images" / split, tmp_path / "split" / "labels" / split)
    (tmp_path / "split" / "labels" / "classes.txt").write_text("cat\n")
    assert list_splits(tmp_path / "split") == ["train", "val"] and _labels(tmp_path / "split") == [1, 1]


def test_yolo_as_darknet_describes_it(tmp_path: Path) -> None:
    _write_labelled(tmp_path / "obj_train_data", tmp_path / "obj_train_data")
    (tmp_path / "obj.data").write_text(
        "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (tmp_path / "obj.names").write_text("cat\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/0.png\ndata/obj_train_data/1.png\n")
    dataset = load_dataset(tmp_path, on_problem="raise")
    assert dataset.class_names == ["cat"] and [len(record.labels) for record in dataset.records] == [1, 1]


def test_a_list_of_pictures_that_are_not_there_names_them(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, "train: train.txt\nnames: [cat, dog]\n")
    (root / "train.txt").write_text("gone/a.png\ngone/b.png\n")
    with pytest.raises(FocusDetrError, match=r"none of the 2 images is there.*a.png.*train.txt"):
        load_dataset(root)


def test_a_json_beside_another_data_set_does_not_matter(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    for name, text in (
        ("package.json", '{"images": ["a.png"]}'),
        ("via.json", '{"annotations": {}, "x": 1}'),
    ):
        (root / name).write_text(text)
    assert len(load_dataset(root)) == 2


def test_lists_in_an_encoding_nobody_names_are_refused_by_name(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "labels.txt").write_bytes("pi\xe8ce\ndog\n".encode("latin-1"))
    with pytest.raises(FocusDetrError, match="labels.txt: is not utf-8 text.*Save it as UTF-8"):
        load_dataset(root)
    (root / "ImageSets" / "Main" / "train.txt").write_bytes("pi\xe8ce\n".encode("latin-1"))
    with pytest.raises(FocusDetrError, match="train.txt: is not utf-8 text.*Save it as UTF-8"):
        load_dataset(root)


def test_annotations_with_endings_in_capitals(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    for file in list((root / "Annotations").iterdir()):
        file.rename(file.with_suffix(".XML"))
    assert len(load_dataset(root, on_problem="raise")) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mkdocs.yml", "site_name: x\nfences:\n  format: !!python/name:a.b\n"),
        ("people.yml", "names: everyone\n"),
        ("notes.yaml", "a: b: c\n"),
        ("data.yaml", "a: b: c\n"),
        ("compose.yaml", "a: &a [*a]\nb: {<<: *a}\n"),
        ("list.yaml", "- a\n- b\n"),
        ("latin.yaml", "name: pi\xe8ce\n"),
        ("empty.yaml", ""),
    ],
)
def test_a_yaml_beside_another_data_set_does_not_matter(tmp_path: Path, name: str, text: str) -> None:
    write_coco(tmp_path / "set" / "train" / "_annotations.coco.json", tmp_path / "set" / "train")
    (tmp_path / "docs").mkdir()
    for folder in (tmp_path / "set", tmp_path / "docs"):
        (folder / name).write_bytes(text.encode("latin-1"))
    assert len(load_dataset(tmp_path / "set")) == len(load_dataset(tmp_path)) == 3
    shutil.rmtree(tmp_path / "set" / "train")
    write_voc(tmp_path / "set")
    assert len(load_dataset(tmp_path / "set")) == 2


def test_labels_without_their_pictures_are_told(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text(ROW)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(FocusDetrError, match="classes.txt tells of YOLO labels.*`train: FOLDER`"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("train", ["../train/images", "/content/set/train/images"])
def test_splits_that_become_one_without_their_folders_are_refused(tmp_path: Path, train: str) -> None:
    """`../train/images`, where only `images` is, would be the pictures of every split."""
    val = train.replace("train", "valid")
    root = write_yolo(tmp_path / "set", f"train: {train}\nval: {val}\nnames: [cat, dog]\n")
    for split in ("train", "val"):
        with pytest.raises(FocusDetrError, match="images' is neither in"):
            load_dataset(root, split)
    # A split that lies inside what another would become is no different.
    (root / "data.yaml").write_text(f"train: {train}\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(FocusDetrError, match="images' is neither in"):
        load_dataset(root, "train")
    assert len(load_dataset(root, "val")) == 1
    # One that says itself that both are the same is believed.
    (root / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    assert len(load_dataset(root, "train")) == 3


@pytest.mark.parametrize(
    "row",
    [
        "1,0.25,0.4,0.25,0.4",
        "1, 0.25, 0.4, 0.25, 0.4",
        "1, 0.25, 0.4, 0.25, 0.4,",
        "1;0.25;0.4;0.25;0.4",
        "1; 0,25; 0,4; 0,25; 0,4;",
        "1 0,25 0,4 0,25 0,4",
        "\ufeff1\t0.25\t0.4\t0.25\t0.4\r",
        "1 0.25 0.4 0.25 0.4  # dog",
        "# class cx cy w h\n1 0.25 0.4 0.25 0.4",
    ],
)
def test_yolo_rows_as_spreadsheets_and_people_write_them(tmp_path: Path, row: str) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "train" / "0.txt").write_text(row + "\n", encoding="utf-8", newline="")
    dataset = load_dataset(root)
    assert dataset.problems == [] and dataset.records[0].labels.tolist() == [1]
    np.testing.assert_allclose(dataset.records[0].boxes_xyxy, [[5, 6, 15, 18]], atol=1e-5)


def test_rows_of_predictions_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "train" / "0.txt").write_text("1 0.25 0.4 0.25 0.4 0.93\n")
    (problem, *_) = load_dataset(root, on_problem="ignore").problems
    assert "sixth number" in problem.message


@pytest.mark.parametrize(
    "rows",
    ["a.xml\nb.xml", "JPEGImages/a.jpg Annotations/a.xml\nJPEGImages/b.jpg Annotations/b.xml", "a 1\nb -1"],
)
def test_voc_lists_of_other_tools(tmp_path: Path, rows: str) -> None:
    root = write_voc(tmp_path)
    (root / "ImageSets" / "Main" / "train.txt").write_text(rows + "\n")
    assert [record.path.name for record in load_dataset(root, "train").records] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("content", ["<html><body>404</body></html>", "", "  ", "<a>" * 2000])
def test_one_xml_that_is_none_does_not_hide_the_others(tmp_path: Path, content: str) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "a.xml").write_text(content)
    dataset = load_dataset(root, "train", on_problem="ignore")
    assert [record.path.name for record in dataset.records] == ["b.jpg"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("object", "Object").replace("bndbox", "BndBox"),
        lambda text: f"\n <?xml version='1.0'?>{text}",
    ],
)
def test_voc_xml_written_by_hand(tmp_path: Path, change) -> None:
    root = write_voc(tmp_path)
    file = root / "Annotations" / "a.xml"
    file.write_text(change(file.read_text()))
    dataset = load_dataset(root, "train")
    assert dataset.records[0].boxes_xyxy.tolist() == [[5, 6, 15, 18]]


def test_objects_that_labelme_marks_as_deleted_are_none(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    file = root / "Annotations" / "a.xml"
    both = voc_xml([("dog", 6, 7, 15, 18), ("cat", 2, 2, 9, 9)])
    file.write_text(both.replace("<name>cat</name>", "<name>cat</name><deleted>1</deleted>"))
    dataset = load_dataset(root, "train")
    assert dataset.problems == [] and len(dataset.records[0].labels) == 1

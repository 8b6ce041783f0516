"""Folders are searched once, without hidden files and loops, and never a whole machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from focus_detr.data import load_dataset
from focus_detr.data.formats import searching
from focus_detr.data.formats.searching import files_below, files_in, is_image_file
from focus_detr.errors import FocusDetrError
from helpers.tiny_datasets import write_coco, write_image, write_voc, write_yolo


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder, is_image_file)]


def test_links_to_folders_count_like_folders_and_once(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "x.png")
    write_image(tmp_path / "set" / "images" / "0.png")
    images = tmp_path / "set" / "images"
    (images / "cam").symlink_to(tmp_path / "elsewhere")
    (images / "again").symlink_to(tmp_path / "elsewhere")
    (images / "up").symlink_to(tmp_path / "set")
    (images / "self").symlink_to(images / "self")
    assert len(_names(images)) == 2 and _names(images)[0] == "0.png"


def test_images_in_a_linked_folder_find_their_labels(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "set")
    write_image(tmp_path / "elsewhere" / "images" / "x.png")
    (tmp_path / "elsewhere" / "labels").mkdir()
    (tmp_path / "elsewhere" / "labels" / "x.txt").write_text("0 .5 .5 .2 .2\n")
    (root / "images" / "train" / "cam").symlink_to(tmp_path / "elsewhere" / "images")
    before = {
        record.path.name: len(record.labels) for record in load_dataset(root, on_problem="ignore").records
    }
    assert before == {"0.png": 1, "1.png": 0, "x.png": 1}


def test_links_that_git_wrote_as_text_are_followed(tmp_path: Path) -> None:
    """On Windows it does, unless told otherwise."""
    root = write_yolo(tmp_path / "set")
    write_image(tmp_path / "elsewhere" / "images" / "x.png")
    (tmp_path / "elsewhere" / "labels").mkdir()
    (tmp_path / "elsewhere" / "labels" / "x.txt").write_text("0 .5 .5 .2 .2\n")
    for folder in ("images", "labels"):
        (root / folder / "train" / "cam").write_text(f"../../../elsewhere/{folder}")
    (root / "images" / "train" / "README").write_text("Nothing to see.")
    (root / "images" / "train" / "LICENSE").write_bytes(b"\0\xff")
    records = load_dataset(root, on_problem="raise").records
    assert {record.path.name: len(record.labels) for record in records} == {
        "0.png": 1,
        "1.png": 0,
        "x.png": 1,
    }


def test_links_out_to_the_machine_are_not_followed(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "0.png")
    for name, target in (("root", "/"), ("proc", "/proc"), ("dev", "/dev")):
        (tmp_path / "images" / name).symlink_to(target)
    begun = time.process_time()
    assert _names(tmp_path / "images") == ["0.png"]
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("place", ["/", "/proc", "/proc/self", "/sys", "//"])
def test_folders_of_the_system_are_refused_at_once(tmp_path: Path, place: str) -> None:
    begun = time.process_time()
    with pytest.raises(FocusDetrError, match="folder of the system"):
        load_dataset(write_yolo(tmp_path, f"train: {place}\nnames: [cat, dog]\n"))
    with pytest.raises(FocusDetrError, match="folder of the system"):
        load_dataset(place)
    assert time.process_time() - begun < 1


def test_a_path_above_the_data_set_that_ends_at_the_root_is_refused(tmp_path: Path) -> None:
    up = "/".join([".."] * 40)
    with pytest.raises(FocusDetrError, match="folder of the system"):
        load_dataset(write_yolo(tmp_path, f"path: /\ntrain: {up}\nnames: [cat, dog]\n"))


def test_a_long_search_that_finds_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_FRUITLESS", 20)
    for number in range(30):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(FocusDetrError, match="nothing found among the first 30 files"):
        files_below(tmp_path, is_image_file)
    write_image(tmp_path / "0.png")
    assert _names(tmp_path) == ["0.png"]


def test_deep_folders_are_searched_to_the_end(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefgh" * 100)
    deep.mkdir(parents=True)
    (deep / "x.png").touch()
    assert [path.name for path in files_below(tmp_path, is_image_file)] == ["x.png"]


def test_hidden_files_of_other_systems_are_no_part_of_a_data_set(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    for place in (
        root / "Annotations" / "._a.xml",
        root / "JPEGImages" / "._a.jpg",
        root / "JPEGImages" / ".DS_Store",
    ):
        place.write_bytes(b"\0\5\26\7\xff")
    (root / "JPEGImages" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (root / "ImageSets" / "Main" / "._train.txt").write_bytes(b"\0\5\26\7\xff")
    (tmp_path / "__MACOSX" / "Annotations").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "Annotations" / "a.xml").write_text("<annotation/>")
    assert len(load_dataset(tmp_path, on_problem="raise")) == 2
    write_coco(tmp_path / "coco" / "instances_train.json", tmp_path / "coco" / "train")
    (tmp_path / "coco" / "._instances_train.json").write_bytes(b"\0\5\26\7\xff")
    assert len(load_dataset(tmp_path / "coco", on_problem="raise")) == 3
    root = write_yolo(tmp_path / "yolo")
    (root / "._data.yaml").write_bytes(b"\0\5\26\7\xff")
    (root / "images" / "train" / "._0.png").write_bytes(b"\0\5\26\7\xff")
    (root / "labels" / "train" / "._0.txt").write_bytes(b"\0\5\26\7\xff")
    assert len(load_dataset(root, on_problem="raise")) == 2
    assert [file.name for file in files_in(root, ".yaml")] == ["data.yaml"]


def test_file_names_that_are_not_utf_8(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    for folder, ending in ((root / "images" / "train", ".png"), (root / "labels" / "train", ".txt")):
        source = os.fsencode(folder / f"0{ending}")
        os.rename(source, os.fsencode(folder) + b"/caf\xe9" + ending.encode())
    dataset = load_dataset(root, on_problem="raise")
    assert [len(record.labels) for record in dataset.records] == [0, 1] and len(dataset[1].labels) == 1
    (root / "labels" / "train" / os.fsdecode(b"caf\xe9.txt")).write_text("7 .5 .5 .2 .2\n")
    [first, _] = load_dataset(root, on_problem="ignore").problems
    str(first).encode()  # fit for any file and console
    assert "caf\\xe9" in str(first)

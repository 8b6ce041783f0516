"""YOLO labels without a data.yaml: darknet's obj.data (CVAT), or classes.txt (LabelImg, Label Studio)."""

from __future__ import annotations

import os
from pathlib import Path

from focus_detr.data.formats.locating import first_existing
from focus_detr.data.formats.reading import UnreadableFileError, read_lines
from focus_detr.data.formats.searching import files_in, folders_in, is_image_file
from focus_detr.data.formats.yolo import YoloSplit, read_split
from focus_detr.data.formats.yolo_labels import label_file

__all__ = ["find_splits", "read_split"]

WHOLE = "all"
_CLASS_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels", "labels.txt")
_SPLIT_NAMES = ("train", "val", "valid", "validation", "test")


def find_splits(root: Path) -> dict[str, YoloSplit]:
    """Splits by name: those that obj.data names, the folders train, val, ..., or "all"."""
    if not root.is_dir():
        return {}
    for description in files_in(root, ".data"):
        if splits := _described(description):
            return splits
    files = (folder / name for folder in (root, root / "labels") for name in _CLASS_FILES)
    file = next(filter(os.path.lexists, files), None)
    if file is None:
        return {}
    names = dict(enumerate(read_lines(file)))
    folders = [
        root,
        *folders_in(root),
        *(inner for folder in folders_in(root) for inner in folders_in(folder)),
    ]
    labelled = [folder for folder in folders if names and _has_labelled_image(folder)]
    named = {
        part: folder for folder in labelled for part in _SPLIT_NAMES if part in folder.relative_to(root).parts
    }
    if named and len(named) == len(labelled):
        return {
            part: YoloSplit(file, root, (str(folder.relative_to(root)),), names)
            for part, folder in named.items()
        }
    entries = tuple(str(folder.relative_to(root)) for folder in labelled)
    return {WHOLE: YoloSplit(file, root, entries, names)} if entries else {}


def traces_in(root: Path) -> list[Path]:
    """Files that tell of YOLO labels, where `find_splits` did not find the pictures to them."""
    places = [root, root / "labels"]
    return [file for place in places for file in files_in(place, ".data", ".names", *_CLASS_FILES)]


def _described(file: Path) -> dict[str, YoloSplit]:
    """The splits of a darknet description, `names = data/obj.names`, `train = data/train.txt` and so on."""
    pairs = [line.partition("=") for line in _read_if_text(file)]
    settings = {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}
    names = first_existing(settings.get("names", ""), [file.parent]) if settings.get("names") else None
    if names is None or names.is_dir():
        return {}
    classes = dict(enumerate(read_lines(names)))
    return {
        key: YoloSplit(file, file.parent, (value,), classes)
        for key in _SPLIT_NAMES
        if classes and (value := settings.get(key))
    }


def _read_if_text(file: Path) -> list[str]:
    try:
        return read_lines(file)
    except UnreadableFileError:  # a file of some program that happens to end in .data
        return []


def _has_labelled_image(folder: Path) -> bool:
    images = (path for path in files_in(folder) if is_image_file(path))
    return any(os.path.isfile(label_file(image)) for image in images)

"""YOLO: data.yaml, images, and a txt file of `class cx cy w h` rows (fractions of the image) beside each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus_detr.data.formats.locating import first_existing, place_of
from focus_detr.data.formats.reading import LIST_LIMIT, UnreadableFileError, read_lines
from focus_detr.data.formats.reading_yaml import YamlFile, read_yaml
from focus_detr.data.formats.searching import files_below, files_in, is_image_file
from focus_detr.data.formats.source import ProblemLog, RawImage, Source, Tally
from focus_detr.data.formats.values import number, shown_value, whole_id
from focus_detr.data.formats.yolo_labels import (
    NO_PICTURE,
    RowForm,
    label_file,
    labels_without_picture,
    read_rows,
)
from focus_detr.errors import FocusDetrError
from focus_detr.printable import in_line, in_number, listed

_SPLIT_KEYS = ("train", "val", "valid", "validation", "test", "minival")


@dataclass(frozen=True)
class YoloSplit:
    """`file`: what describes the data set. `entries`: folders, lists, pictures, from `base` or beside it.
    `rivals`: those of the other splits."""

    file: Path
    base: Path
    entries: tuple[str, ...]
    names: dict[int, str]
    keypoint_values: int = 0
    rivals: tuple[str, ...] = ()


def find_splits(root: Path) -> dict[str, YoloSplit]:
    """Splits named in the folder's data.yaml, or in another yaml file there with `names` and `train`.

    A yaml that cannot be read is an error only where none that can is beside it.
    """
    if not root.is_dir():
        candidates = [root] if root.suffix.lower() in (".yaml", ".yml") else []
    else:
        files = files_in(root, ".yaml", ".yml")
        candidates = sorted(files, key=lambda file: file.stem.lower() not in ("data", "dataset"))
    unreadable: list[UnreadableFileError] = []
    for file in candidates:
        try:
            content = read_yaml(file)
        except UnreadableFileError as error:
            unreadable.append(error)
            continue
        if (
            content is not None
            and "names" in content.values
            and any(key in content.values for key in _SPLIT_KEYS)
        ):
            return _splits(content)
    if unreadable:
        raise unreadable[0]
    return {}


def read_split(split: YoloSplit, log: ProblemLog, masks: bool = False) -> Source:
    found: dict[Path, Path] = {}
    for entry in split.entries:
        for path, place in _image_paths(entry, split).items():
            found.setdefault(path, place)
    images = [RawImage(path, relative=True, named_by=place) for path, place in found.items()]
    form = RowForm(split.names, split.keypoint_values, masks)
    owner: dict[Path, Path] = {}
    without_labels = 0
    for image in images:
        file = label_file(image.path)
        image.annotation_file = file
        if file in owner:
            log.add(
                "duplicate-image-name",
                "warning",
                image.path,
                f"shares {file.name} with {owner[file].name}; both get its boxes",
                "Keep one of them.",
            )
        owner[file] = image.path
        if os.path.lexists(file):
            image.boxes, image.lost = read_rows(file, form, log)
        else:
            without_labels += 1
    if images and without_labels == len(images):
        _refuse_without_labels(images, split)
    if without_labels:
        log.add(
            "missing-annotation",
            "warning",
            split.file,
            in_number(
                "{count} [image has no label file and counts as an image|images have no label file "
                "and count as "
                "images] without objects",
                without_labels,
            ),
            "If that is meant, add empty txt files.",
        )
    lost = Tally(split.file, log)
    for folder in {place: None for place in found.values() if place.is_dir()}:
        for file in labels_without_picture(folder, owner.keys()):
            lost.add(NO_PICTURE, str(file))
    lost.report()
    return Source(dict(split.names), images)


def _splits(content: YamlFile) -> dict[str, YoloSplit]:
    names = _names(content)
    classes = content.values.get("nc")
    if classes is not None and number(classes) != len(names):
        shown = in_line(classes, 60) if isinstance(classes, str) else _shown(classes)
        raise content.refusal("nc", f"nc is {shown} but {len(names)} names are given. Make them agree")
    base, keypoints = _base(content), _keypoint_values(content)
    given = [key for key in _SPLIT_KEYS if content.values.get(key) not in (None, [])]
    if not given:
        empty = next(key for key in _SPLIT_KEYS if key in content.values)
        raise content.refusal(empty, f"{empty!r} is empty: name a folder or a list of images")
    entries = {key: _entries(content, key) for key in given}
    return {
        key: YoloSplit(
            content.file,
            base,
            own,
            names,
            keypoints,
            rivals=tuple(entry for other in given if other != key for entry in entries[other]),
        )
        for key, own in entries.items()
    }


def _names(content: YamlFile) -> dict[int, str]:
    value = content.values["names"]
    pairs: list[tuple[int | None, Any]] = []
    if isinstance(value, list):
        pairs = list(enumerate(value))
    elif isinstance(value, dict):
        pairs = [(int(key) if key.isdecimal() else None, name) for key, name in value.items()]
    if not pairs or sorted(index for index, _ in pairs if index is not None) != list(range(len(pairs))):
        raise content.refusal(
            "names", f"'names' must be a list, or a map of 0, 1, 2, ... to names; it is {_shown(value)}"
        )
    bad = [name for _, name in pairs if not isinstance(name, str) or not name.strip()]
    if bad:
        shown = "empty or null" if bad[0] is None else _shown(bad[0])
        raise content.refusal(
            "names",
            f"a class name is {shown}: names are text; put one that yaml reads otherwise in quotes",
        )
    return dict(sorted((index, name.strip()) for index, name in pairs if index is not None))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"a map of {listed(value)}" if value else "an empty map"
    return "empty" if value is None else shown_value(value)


def _base(content: YamlFile) -> Path:
    """`path` counts from the yaml's folder; where no such folder is (a path of another machine), that
    folder."""
    here = content.file.parent
    path = content.values.get("path")
    if path is None:
        return here
    if not isinstance(path, str) or not path.isprintable():
        raise content.refusal("path", f"'path' must be a folder; it is {shown_value(path)}")
    base = (
        here / Path(path.replace("\\", "/")).expanduser()
        if path.startswith("~")
        else here / path.replace("\\", "/")
    )
    return base if os.path.isdir(base) else here


def _keypoint_values(content: YamlFile) -> int:
    """How many numbers of a row are keypoints: the product of `kpt_shape`, 0 where there is none."""
    shape = content.values.get("kpt_shape")
    if shape is None:
        return 0
    sizes = [whole_id(item) for item in shape] if isinstance(shape, list) else []
    if len(sizes) != 2 or sizes[0] is None or sizes[0] < 1 or sizes[1] not in (2, 3):
        raise content.refusal("kpt_shape", "'kpt_shape' must be [keypoints, 2 or 3]")
    return sizes[0] * sizes[1]


def _entries(content: YamlFile, key: str) -> tuple[str, ...]:
    value = content.values[key]
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry.strip():
            raise content.refusal(
                key, f"{key!r} must be a folder, a txt file, or a list of these; it is {_shown(value)}"
            )
        if any(ord(character) < 32 for character in entry):
            raise content.refusal(
                key,
                f"{key!r} holds a control character, {shown_value(entry)}, as yaml reads \\t and \\n in "
                "double quotes. Write / between folders",
            )
    return tuple(entry.strip() for entry in entries)


def _image_paths(entry: str, split: YoloSplit) -> dict[Path, Path]:
    """Images, each with the list or folder that names it."""
    place = _place(entry, split)
    # Without the folders that are not here, the names of two splits may become one.
    shared = place is not None and not _is_whole(entry, place) and _is_shared(place, split)
    if place is None or shared:
        raise FocusDetrError(
            f"{split.file}: {in_line(entry)!r} is neither in {split.base} nor beside this file. "
            "Correct the path."
        )
    if is_image_file(place):
        return {place: split.file}
    if not place.is_dir():
        return _listed_images(place, split.base)
    paths = files_below(place, is_image_file)
    if not paths:
        raise FocusDetrError(f"{place}: no image in this folder, which {split.file.name} names.")
    return dict.fromkeys(paths, place)


def _place(entry: str, split: YoloSplit) -> Path | None:
    # Roboflow writes ../train/images for a folder beside the yaml, others the paths of their machine.
    return first_existing(os.path.expanduser(entry), [split.base, split.file.parent, split.base / "images"])


def _is_whole(entry: str, place: Path) -> bool:
    """Whether `place` is all that `entry` says, and not what is left of it without some folders."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")]
    return place.parts[-len(parts) :] == tuple(parts)


def _is_shared(place: Path, split: YoloSplit) -> bool:
    """Whether another split lies there, too, above it or below it."""
    here = place.resolve()
    others = [found.resolve() for entry in split.rivals if (found := _place(entry, split)) is not None]
    return any(here == other or here in other.parents or other in here.parents for other in others)


def _listed_images(file: Path, base: Path) -> dict[Path, Path]:
    lines = read_lines(file, LIST_LIMIT)
    place = place_of(lines, [file.parent, base, base / "images"])
    if place is None:
        return {file.parent / line: file for line in lines}
    return {place.path(line): file for line in lines}


def _refuse_without_labels(images: list[RawImage], split: YoloSplit) -> None:
    there = [image for image in images if os.path.isfile(image.path)]
    if not there:
        raise FocusDetrError(
            f"{split.file}: none of the {len(images)} images is there, {images[0].path} for one, which "
            f"{images[0].named_by} names. Correct the paths."
        )
    raise FocusDetrError(
        f"{split.file}: no label file found for any of {len(images)} images, "
        f"{label_file(there[0].path)} for one. Labels lie in a 'labels' folder beside 'images', "
        "or next to the images."
    )

"""COCO json: finding the splits of a folder and reading one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus_detr.data.formats.coco_objects import attach_objects
from focus_detr.data.formats.locating import Placement, place_of
from focus_detr.data.formats.reading import read_json, read_start
from focus_detr.data.formats.searching import files_in, folders_in
from focus_detr.data.formats.source import Fault, ProblemLog, RawImage, Source, Tally
from focus_detr.data.formats.values import id_key, size, whole_id
from focus_detr.errors import FocusDetrError
from focus_detr.printable import in_line

WHOLE = "all"
_GENERIC_WORDS = {
    "instances",
    "instance",
    "annotations",
    "annotation",
    "coco",
    "labels",
    "detection",
    "gt",
    "result",
    "",
}
_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
_START = 65_536  # bytes that tell what a json is about
_IMAGE_FOLDERS = ("images", "JPEGImages", "data", "Images", "imgs")

_NO_ENTRY = Fault(
    "bad-image-entry",
    "error",
    "{count} image [entry|entries] without a usable 'id' and 'file_name' [was|were] left out",
    "An id is a number or text, a file name is text.",
)
_SAME_ID = Fault(
    "duplicate-image-id",
    "error",
    "{count} image[|s] [has|have] the id of an earlier one and [was|were] left out",
    "Give every image its own id.",
)
_SAME_NAME = Fault(
    "duplicate-image-name",
    "error",
    "{count} image[|s] [has|have] the file name of an earlier one and [was|were] left out; it was "
    "given [its|their] objects",
    "List every file once.",
)
_SAME_FILE = Fault(
    "duplicate-image-name",
    "error",
    "{count} image[|s] [names|name] the file of an earlier one and [was|were] left out",
    "List every file once.",
)


@dataclass(frozen=True)
class CocoSplit:
    file: Path
    root: Path
    name: str


def find_splits(root: Path) -> dict[str, CocoSplit]:
    """Splits by name: from `instances_train2017.json`, from the folder of `train/_annotations.coco.json`, or
    "all" for a json whose name and folder say nothing."""
    if not root.is_dir():
        name = _split_name(root, root.parent) if root.suffix.lower() == ".json" else None
        return {name: CocoSplit(root, root.parent, name)} if name else {}
    candidates = [
        *files_in(root, ".json"),
        *(file for folder in folders_in(root) for file in files_in(folder, ".json")),
    ]
    splits: dict[str, CocoSplit] = {}
    for file in sorted(candidates):
        if file.name.startswith(_OTHER_TASKS) or not _looks_like_coco(file):
            continue
        name = _split_name(file, root)
        if name in splits:
            raise FocusDetrError(
                f"{root}: both {splits[name].file.relative_to(root)} and {file.relative_to(root)} would be "
                f"the split {name!r}. Remove one, or give the path of the json file itself."
            )
        splits[name] = CocoSplit(file, root, name)
    return splits


def read_split(split: CocoSplit, log: ProblemLog, masks: bool = False) -> Source:
    """Raises `FocusDetrError` when the file is not COCO detection json or none of its images can be found."""
    content = _load(split.file)
    used = {id_key(entry.get("category_id")) for entry in content["annotations"] if isinstance(entry, dict)}
    categories, stands_for = read_categories(content["categories"], used, split.file, log)
    images = _images(content["images"], split, log)
    attach_objects(content["annotations"], images, stands_for, split.file, log, masks)
    return Source(categories, list({id(image): image for image in images.values()}.values()))


def _split_name(file: Path, root: Path) -> str:
    words = [word for word in re.split(r"[_\-.\s]+", file.stem) if word.lower() not in _GENERIC_WORDS]
    if words:
        return "_".join(words)
    in_own_folder = file.parent != root and file.parent.name.lower() not in _GENERIC_WORDS
    return file.parent.name if in_own_folder else WHOLE


def _looks_like_coco(file: Path) -> bool:
    if file.name.startswith("instances_") or file.name == "_annotations.coco.json":
        return True
    start = read_start(file, _START)
    found = [key in start for key in (b'"images"', b'"annotations"', b'"categories"')]
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and (
        all(found) if len(start) < _START else any(found)
    )


def _load(file: Path) -> dict[str, list[Any]]:
    content = read_json(file)
    missing = [key for key in ("images", "annotations", "categories") if not _has_list(content, key)]
    if missing:
        raise FocusDetrError(
            f"{file}: not COCO detection json: {', '.join(missing)} missing or not a list. It needs "
            "'images', 'annotations' and 'categories', all lists (results and captions have other forms)."
        )
    return content


def _has_list(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), list)


def read_categories(
    entries: list[Any], used: set[str | None], file: Path, log: ProblemLog
) -> tuple[dict[int, str], dict[str, int]]:
    """Names by id in order of id, and every id of the file (as `id_key`) with the one that stands for it."""
    usable = [
        (found, entry["name"].strip(), entry.get("supercategory"))
        for entry in entries
        if (found := _id_of(entry)) is not None
    ]
    if len(usable) < len(entries) or not usable:
        raise FocusDetrError(
            f"{file}: every category needs a whole-number 'id' and a text 'name'; one at least."
        )
    parents = {parent for _, _, parent in usable if isinstance(parent, str)}
    categories: dict[int, str] = {}
    by_name: dict[str, int] = {}
    stands_for: dict[str, int] = {}
    for identifier, name, parent in sorted(usable, key=lambda entry: entry[0]):
        key = str(identifier)
        # Roboflow writes the data set's own name as a parent class nothing is labelled with.
        if parent == "none" and name in parents and key not in used:
            continue
        if categories.get(identifier, name) != name:
            raise FocusDetrError(
                f"{file}: category {identifier} is both {in_line(categories[identifier])!r} and "
                f"{in_line(name)!r}: nothing tells their objects apart. Give each its own id."
            )
        if name in by_name:
            log.add(
                "duplicate-category",
                "warning",
                file,
                f"category {in_line(name)!r} (id {identifier}) is listed twice",
                "Both are read as one class.",
            )
        if name not in by_name:
            categories[identifier] = name
            by_name[name] = identifier
        stands_for.setdefault(key, by_name.get(name, identifier))
    return categories, stands_for


def _id_of(category: Any) -> int | None:
    if not isinstance(category, dict) or not isinstance(category.get("name"), str):
        return None
    if not category["name"].strip():
        return None
    return whole_id(category.get("id"))


def _images(entries: list[Any], split: CocoSplit, log: ProblemLog) -> dict[str, RawImage]:
    """Images by id (as `id_key`); one that is listed again, under its other ids too."""
    tally = Tally(split.file, log)
    named: list[tuple[str, dict[str, Any]]] = []
    for position, entry in enumerate(entries):
        key = id_key(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or not isinstance(entry.get("file_name"), str) or not entry["file_name"].strip():
            tally.add(_NO_ENTRY, f"images[{position}]")
        else:
            named.append((key, entry))
    place = _placement([entry["file_name"] for _, entry in named], split)
    images: dict[str, RawImage] = {}
    owner_of_file: dict[Path, str] = {}
    name_of: dict[str, str] = {}
    for key, entry in named:
        path = place.path(entry["file_name"])
        shown = in_line(entry["file_name"], 120)
        if key in images:
            tally.add(_SAME_ID, f"{shown} (id {in_line(key, 40)})")
        elif path in owner_of_file and entry["file_name"] == name_of[owner_of_file[path]]:
            # Without the objects of the second entry, what they are would be background in the first.
            images[key] = images[owner_of_file[path]]
            tally.add(
                _SAME_NAME, f"{shown}, images {in_line(owner_of_file[path], 40)} and {in_line(key, 40)}"
            )
        elif path in owner_of_file:
            tally.add(
                _SAME_FILE, f"{shown}, images {in_line(owner_of_file[path], 40)} and {in_line(key, 40)}"
            )
        else:
            owner_of_file[path], name_of[key] = key, entry["file_name"]
            images[key] = RawImage(
                path=path,
                image_id=whole_id(key),
                declared_size=size(entry.get("width"), entry.get("height")),
                annotation_file=split.file,
            )
    tally.report()
    return images


def _placement(names: list[str], split: CocoSplit) -> Placement:
    """Where the named files lie, among those places that layouts in use put them in."""
    here, root = split.file.parent, split.root
    without_year = re.sub(r"\d{4}$", "", split.name)
    parts = [
        part
        for name in dict.fromkeys((split.name, without_year))
        for part in (name, f"images/{name}", f"{name}/images", *_IMAGE_FOLDERS, ".")
    ]
    found = place_of(
        names, [base / part for base in (here, root, here.parent, root.parent) for part in parts]
    )
    if found is None and names:
        raise FocusDetrError(
            f"{split.file}: none of its images found, {in_line(names[0], 200)} for one. Put them in "
            f"{root / split.name} or {root / 'images'}."
        )
    return found or Placement(root, 0)

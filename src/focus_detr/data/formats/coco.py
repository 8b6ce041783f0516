"""COCO json: finding the splits of a folder and reading one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus_detr.data.formats.source import ProblemLog, RawBox, RawImage, Source
from focus_detr.errors import FocusDetrError

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
    "",
}
_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")


@dataclass(frozen=True)
class CocoSplit:
    file: Path
    root: Path
    name: str


def find_splits(root: Path) -> dict[str, CocoSplit]:
    """Splits by name: from `instances_train2017.json`, from the folder of `train/_annotations.coco.json`, or
    "all" for a json whose name and folder say nothing."""
    if root.is_file():
        name = _split_name(root, root.parent) if root.suffix == ".json" else None
        return {name: CocoSplit(root, root.parent, name)} if name else {}
    candidates = sorted([*root.glob("*.json"), *root.glob("*/*.json")])
    splits: dict[str, CocoSplit] = {}
    for file in candidates:
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


def read_split(split: CocoSplit, log: ProblemLog) -> Source:
    """Raises `FocusDetrError` when the file is not COCO detection json or none of its images can be found."""
    content = _load(split.file)
    used = {
        annotation.get("category_id") for annotation in content["annotations"] if isinstance(annotation, dict)
    }
    categories, merged = _categories(content["categories"], used, split.file, log)
    images = _images(content["images"], split, log)
    _attach_boxes(content["annotations"], images, merged, split.file, log)
    return Source(categories, list(images.values()))


def _split_name(file: Path, root: Path) -> str:
    words = [word for word in re.split(r"[_\-.\s]+", file.stem) if word.lower() not in _GENERIC_WORDS]
    if words:
        return "_".join(words)
    in_own_folder = file.parent != root and file.parent.name.lower() not in _GENERIC_WORDS
    return file.parent.name if in_own_folder else WHOLE


def _looks_like_coco(file: Path) -> bool:
    if file.name.startswith("instances_") or file.name == "_annotations.coco.json":
        return True
    with file.open("rb") as stream:
        start = stream.read(65536)
    return start.lstrip()[:1] == b"{" and any(key in start for key in (b'"images"', b'"annotations"'))


def _load(file: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FocusDetrError(
            f"{file}: not valid json ({error}). It may be empty or cut short: copy it again."
        ) from error
    missing = [key for key in ("images", "annotations", "categories") if not _has_list(content, key)]
    if missing:
        raise FocusDetrError(
            f"{file}: not COCO detection json: {', '.join(missing)} missing or not a list. It needs "
            "'images', 'annotations' and 'categories', all lists (results and captions have other forms)."
        )
    return content


def _has_list(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), list)


def _categories(
    entries: list[Any], used: set[Any], file: Path, log: ProblemLog
) -> tuple[dict[int, str], dict[int, int]]:
    """Categories by id in order of id, and a map of every id of the file to the one that stands for it."""
    usable = sorted((e for e in entries if _is_category(e)), key=lambda entry: entry["id"])
    if len(usable) < len(entries) or not usable:
        raise FocusDetrError(
            f"{file}: every category needs a whole-number 'id' and a text 'name'; one at least."
        )
    parents = {entry.get("supercategory") for entry in usable}
    categories: dict[int, str] = {}
    stands_for: dict[int, int] = {}
    for entry in usable:
        identifier, name = entry["id"], entry["name"]
        # Roboflow writes the data set's own name as a parent class nothing is labelled with.
        if entry.get("supercategory") == "none" and name in parents and identifier not in used:
            continue
        twin = next((known for known, known_name in categories.items() if known_name == name), None)
        if twin is not None or identifier in categories:
            log.add(
                "duplicate-category",
                "warning",
                file,
                f"category {name!r} (id {identifier}) is listed twice",
                "Both are read as one class.",
            )
        if identifier not in categories and twin is None:
            categories[identifier] = name
        stands_for.setdefault(identifier, identifier if twin is None else twin)
    return categories, stands_for


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)


def _images(entries: list[Any], split: CocoSplit, log: ProblemLog) -> dict[Any, RawImage]:
    usable = [entry for entry in entries if isinstance(entry, dict) and "id" in entry and _is_name(entry)]
    if len(usable) < len(entries):
        log.add(
            "bad-image-entry",
            "error",
            split.file,
            f"{len(entries) - len(usable)} image entries without 'id' or 'file_name' were left out",
            "Add them.",
        )
    folder = _image_folder([entry["file_name"] for entry in usable], split)
    images: dict[Any, RawImage] = {}
    owner_of_file: dict[str, Any] = {}
    for entry in usable:
        identifier, name = entry["id"], entry["file_name"]
        if identifier in images:
            log.add(
                "duplicate-image-id",
                "error",
                split.file,
                f"image id {identifier} is used twice; {name} was left out",
                "Give every image its own id.",
            )
        elif name in owner_of_file:
            log.add(
                "duplicate-image-name",
                "error",
                split.file,
                f"{name} is listed as image {owner_of_file[name]} and {identifier}; the second was left out",
                "List every file once.",
            )
        else:
            owner_of_file[name] = identifier
            images[identifier] = RawImage(
                path=folder / name,
                image_id=identifier if type(identifier) is int else None,
                declared_size=_declared_size(entry),
                annotation_file=split.file,
            )
    return images


def _is_name(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("file_name"), str) and bool(entry["file_name"])


def _declared_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    width, height = _positive(entry.get("width")), _positive(entry.get("height"))
    return (int(width), int(height)) if width and height else None


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _image_folder(names: list[str], split: CocoSplit) -> Path:
    """The folder that holds most of a few of the named files, among those layouts in use place them in."""
    here, root = split.file.parent, split.root
    without_year = re.sub(r"\d{4}$", "", split.name)
    folders = [
        base / part
        for base in dict.fromkeys((here, root, here.parent, root.parent))
        for name in dict.fromkeys((split.name, without_year))
        for part in (name, f"images/{name}", f"{name}/images", "images", "JPEGImages", ".")
    ]
    probes = names[:: max(1, len(names) // 16)][:16]
    found = {folder: sum((folder / name).is_file() for name in probes) for folder in dict.fromkeys(folders)}
    best = max(found, key=lambda folder: found[folder])
    if found[best] == 0 and probes:
        raise FocusDetrError(
            f"{split.file}: none of its images found, {probes[0]} for one. Put them in "
            f"{root / split.name} or {root / 'images'}."
        )
    return best


def _attach_boxes(
    annotations: Iterable[Any],
    images: dict[Any, RawImage],
    stands_for: dict[int, int],
    file: Path,
    log: ProblemLog,
) -> None:
    seen: dict[Any, tuple[Any, ...]] = {}
    counts = {"copies": 0, "shared ids": 0, "orphans": 0, "malformed": 0}
    unknown: dict[Any, int] = {}
    for annotation in annotations:
        if not isinstance(annotation, dict) or not _is_box(annotation.get("bbox")):
            counts["malformed"] += 1
            continue
        x, y, width, height = annotation["bbox"]
        identity = (annotation.get("image_id"), annotation.get("category_id"), x, y, width, height)
        identifier = annotation.get("id")
        if identifier is not None and identifier in seen:
            if seen[identifier] == identity:
                counts["copies"] += 1
                continue
            counts["shared ids"] += 1
        seen[identifier] = identity
        image = images.get(annotation.get("image_id"))
        if image is None:
            counts["orphans"] += 1
        elif annotation.get("category_id") not in stands_for:
            unknown[annotation.get("category_id")] = unknown.get(annotation.get("category_id"), 0) + 1
        else:
            image.boxes.append(
                RawBox(
                    xyxy=(x, y, x + width, y + height),
                    category=stands_for[annotation["category_id"]],
                    crowd=bool(annotation.get("iscrowd", 0)),
                    area=_positive(annotation.get("area")),
                )
            )
    _report(counts, unknown, file, log)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value)


def _report(counts: dict[str, int], unknown: dict[Any, int], file: Path, log: ProblemLog) -> None:
    if counts["copies"]:
        log.add(
            "duplicate-annotation-id",
            "error",
            file,
            f"{counts['copies']} annotations repeat an earlier one, id and box alike, and were left out",
            "Write every annotation once.",
        )
    if counts["shared ids"]:
        log.add(
            "duplicate-annotation-id",
            "warning",
            file,
            f"{counts['shared ids']} annotations share an id with a different one; all were kept",
            "Number the annotations afresh.",
        )
    if counts["orphans"]:
        log.add(
            "unknown-image",
            "error",
            file,
            f"{counts['orphans']} annotations name an image that is not listed (or was left out)",
            "Remove them or list their images.",
        )
    if counts["malformed"]:
        log.add(
            "bad-box",
            "error",
            file,
            f"{counts['malformed']} annotations have no 'bbox' of four numbers [x, y, width, height]",
            "Correct or remove them.",
        )
    for category, count in unknown.items():
        log.add(
            "unknown-class",
            "error",
            file,
            f"{count} annotations of category id {category!r}, which 'categories' does not list, were left "
            "out",
            "Add the category or remove them.",
        )

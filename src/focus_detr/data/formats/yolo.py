"""YOLO: data.yaml, images, and a txt file of `class cx cy w h` rows (fractions of the image) beside each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from focus_detr.data.formats.source import ProblemLog, RawBox, RawImage, Source, is_image_file
from focus_detr.errors import FocusDetrError

_SPLIT_KEYS = ("train", "val", "valid", "test", "minival")
_SLACK = 1e-3


@dataclass(frozen=True)
class YoloSplit:
    file: Path
    base: Path
    entries: tuple[str, ...]
    names: dict[int, str]


def find_splits(root: Path) -> dict[str, YoloSplit]:
    """Splits named in the folder's data.yaml (or the one yaml file there that has `names`), if there is
    one."""
    for file in _yaml_candidates(root):
        content = _load(file)
        if isinstance(content, dict) and "names" in content:
            names = _names(content["names"], file)
            if content.get("nc") not in (None, len(names)):
                raise FocusDetrError(
                    f"{file}: nc is {content['nc']} but {len(names)} names are given. Make them agree."
                )
            base = _base(file, content.get("path"))
            return {
                key: YoloSplit(file, base, _entries(content[key], file, key), names)
                for key in _SPLIT_KEYS
                if content.get(key)
            }
    return {}


def read_split(split: YoloSplit, log: ProblemLog) -> Source:
    found: dict[Path, Path] = {}
    for entry in split.entries:
        found |= _image_paths(entry, split)
    images = [RawImage(path, relative=True, named_by=place) for path, place in found.items()]
    owner: dict[Path, Path] = {}
    misread: set[Path] = set()
    without_labels = 0
    for image in images:
        file = _label_file(image.path)
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
        if file.is_file():
            image.boxes, refused = _boxes(file, split.names, log)
            if refused and not image.boxes:
                misread.add(image.path)  # it has objects: as background it would teach the opposite
        else:
            without_labels += 1
    if images and without_labels == len(images):
        raise FocusDetrError(
            f"{split.file}: no label file found for any of {len(images)} images, "
            f"{_label_file(images[0].path)} for "
            "one. Labels lie in a 'labels' folder beside 'images', or next to the images."
        )
    if without_labels:
        log.add(
            "missing-annotation",
            "warning",
            split.file,
            f"{without_labels} images have no label file and count as images without objects",
            "If that is meant, add empty txt files.",
        )
    if misread:
        log.add(
            "no-usable-row",
            "error",
            split.file,
            f"{len(misread)} images have rows, but none that can be used, and were left out; "
            f"{min(misread)} for one",
            "Correct their label files.",
        )
        if len(misread) == len(images):
            raise FocusDetrError(
                f"{split.file}: no image has a row that can be used. {log.problems[-2]} (and so on)"
            )
    return Source(dict(split.names), [image for image in images if image.path not in misread])


def _yaml_candidates(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix in (".yaml", ".yml") else []
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    return sorted(files, key=lambda file: file.stem not in ("data", "dataset"))


def _load(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FocusDetrError(f"{file}: not valid yaml ({error}).") from error


def _names(value: Any, file: Path) -> dict[int, str]:
    pairs = (
        list(enumerate(value))
        if isinstance(value, list)
        else list(value.items())
        if isinstance(value, dict)
        else []
    )
    try:
        names = {int(index): str(name) for index, name in pairs}
    except (TypeError, ValueError):
        names = {}
    if not names or sorted(names) != list(range(len(names))):
        raise FocusDetrError(
            f"{file}: 'names' must be a list, or a map of 0, 1, 2, ... to names; it is {value!r}."
        )
    return dict(sorted(names.items()))


def _base(file: Path, path: Any) -> Path:
    """`path` counts from the yaml's folder; where no such folder is (a path of another machine), that
    folder."""
    base = file.parent / str(path) if path else file.parent
    return base if base.is_dir() else file.parent


def _entries(value: Any, file: Path, key: str) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise FocusDetrError(
            f"{file}: {key!r} must be a folder, a txt file, or a list of these; it is {value!r}."
        )
    return tuple(entries)


def _image_paths(entry: str, split: YoloSplit) -> dict[Path, Path]:
    """Images, each with the list or folder that names it."""
    # Roboflow writes ../train/images for a folder that lies beside the yaml.
    tried = [split.base / entry, split.base / entry.removeprefix("../"), split.file.parent / entry]
    place = next((path for path in tried if path.exists()), None)
    if place is None:
        raise FocusDetrError(
            f"{split.file}: {entry!r} is neither in {split.base} nor beside the yaml. Correct the path."
        )
    if place.is_file():
        lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        return {_listed_image(line, place.parent, split.base): place for line in lines}
    paths = sorted(path for path in place.rglob("*") if is_image_file(path))
    if not paths:
        raise FocusDetrError(f"{place}: no image in this folder, which {split.file.name} names.")
    return dict.fromkeys(paths, place)


def _listed_image(line: str, folder: Path, base: Path) -> Path:
    beside = folder / line
    return beside if beside.exists() or not (base / line).exists() else base / line


def _label_file(image: Path) -> Path:
    """The last `images` folder of the path becomes `labels`; without one the labels lie beside the image."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _boxes(file: Path, names: dict[int, str], log: ProblemLog) -> tuple[list[RawBox], int]:
    """The boxes of a label file, and how many of its rows were refused."""
    boxes: list[RawBox] = []
    refused: dict[str, int] = {}
    for row in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if row.strip():
            box = _parse_row(row.split(), names)
            if isinstance(box, RawBox):
                boxes.append(box)
            else:
                refused[box] = refused.get(box, 0) + 1
    for reason, count in refused.items():
        kind, message, fix = _REASONS[reason]
        log.add(
            kind, "error", file, f"{count} rows {message} and were left out", fix.format(last=len(names) - 1)
        )
    return boxes, sum(refused.values())


_REASONS = {
    "form": ("bad-label-row", "are not 'class cx cy w h' (nor a polygon)", "Write five numbers a row."),
    "class": ("class-out-of-range", "name a class the yaml does not have", "Classes are 0 to {last}."),
    "range": (
        "label-out-of-range",
        "have values outside 0..1",
        "Divide x and w by the width, y and h by the height.",
    ),
}


def _parse_row(row: list[str], names: dict[int, str]) -> RawBox | str:
    """A box, or the key of the reason why the row is none. Polygon rows give the box around the polygon."""
    try:
        values = [float(value) for value in row]
    except ValueError:
        return "form"
    label, rest = values[0], values[1:]
    is_polygon = len(rest) >= 6 and len(rest) % 2 == 0
    if len(rest) != 4 and not is_polygon:
        return "form"
    if label not in names:
        return "class"
    if any(value < -_SLACK or value > 1 + _SLACK for value in rest):
        return "range"
    if is_polygon:
        xs, ys = rest[0::2], rest[1::2]
        return RawBox((min(xs), min(ys), max(xs), max(ys)), int(label))
    cx, cy, width, height = rest
    return RawBox((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), int(label))

"""Pascal VOC: JPEGImages + Annotations + ImageSets/Main, or xml files beside their images."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from focus_detr.data.formats.source import ProblemLog, RawBox, RawImage, Source, is_image_file
from focus_detr.errors import FocusDetrError

WHOLE = "all"
_LABEL_FILES = ("labels.txt", "classes.txt")


@dataclass(frozen=True)
class VocSplit:
    """`stems`: the annotations asked for, in order. `xml_folders`: all that class names are taken from."""

    root: Path
    xml_folder: Path
    image_folder: Path
    stems: tuple[str, ...]
    xml_folders: tuple[Path, ...]


def find_splits(root: Path) -> dict[str, VocSplit]:
    """Splits by name: the lists of ImageSets/Main, the folders that hold xml files, or "all"."""
    annotations = root / "Annotations"
    if annotations.is_dir():
        image_folder = next(
            (f for f in (root / "JPEGImages", root / "images") if f.is_dir()), root / "JPEGImages"
        )
        listed = {
            file.stem: stems
            for file in sorted((root / "ImageSets" / "Main").glob("*.txt"))
            if (stems := _read_list(file)) is not None
        }
        stems_of = listed or {WHOLE: _stems(annotations)}
        return {
            name: VocSplit(root, annotations, image_folder, stems, (annotations,))
            for name, stems in stems_of.items()
        }
    if root.is_dir() and _has_voc_xml(root):
        return {WHOLE: VocSplit(root, root, root, _stems(root), (root,))}
    folders = tuple(f for f in sorted(root.glob("*")) if f.is_dir() and _has_voc_xml(f))
    return {folder.name: VocSplit(root, folder, folder, _stems(folder), folders) for folder in folders}


def read_split(split: VocSplit, log: ProblemLog) -> Source:
    """VOC counts pixels from 1 and includes the last one: a box xmin..xmax covers [xmin - 1, xmax].

    Objects marked `difficult` are ordinary objects here.
    """
    names = _class_names(split)
    label_of = {name: label for label, name in enumerate(names)}
    image_files = _image_files(split.image_folder, log)
    images: list[RawImage] = []
    for stem in dict.fromkeys(split.stems):
        file = split.xml_folder / f"{stem}.xml"
        root = _parse(file, log)
        if root is None:
            continue
        path = image_files.get(root.findtext("filename", "").strip()) or image_files.get(stem)
        if path is None:
            path = split.image_folder / f"{stem}.jpg"
        images.append(
            RawImage(
                path, None, _declared_size(root), _boxes(root, label_of, file, log), annotation_file=file
            )
        )
    if len(set(split.stems)) < len(split.stems):
        log.add(
            "duplicate-image-name",
            "warning",
            split.root,
            f"{len(split.stems) - len(set(split.stems))} lines of the split's list repeat an image; each is "
            "read once",
            "Remove the repeated lines.",
        )
    return Source(dict(enumerate(names)), images)


def _read_list(file: Path) -> tuple[str, ...] | None:
    """Image names of a split's list; None for the per-class lists of VOC, whose lines have a second
    column."""
    rows = [line.split() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if rows and all(len(row) == 2 and row[1] in ("-1", "0", "1") for row in rows):
        return None
    return tuple(Path(" ".join(row)).stem if is_image_file(Path(row[-1])) else " ".join(row) for row in rows)


def _stems(folder: Path) -> tuple[str, ...]:
    return tuple(file.stem for file in sorted(folder.glob("*.xml")))


def _has_voc_xml(folder: Path) -> bool:
    first = next(iter(sorted(folder.glob("*.xml"))), None)
    return first is not None and b"<annotation" in first.read_bytes()[:4096]


def _class_names(split: VocSplit) -> list[str]:
    """Names from labels.txt or classes.txt, else those of all annotations, sorted: the same for every
    split."""
    for name in _LABEL_FILES:
        file = split.root / name
        if file.is_file():
            return [
                line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()
            ]
    names: set[str] = set()
    for folder in split.xml_folders:
        for file in folder.glob("*.xml"):
            try:
                root = ElementTree.parse(file).getroot()
            except (ElementTree.ParseError, OSError):
                continue  # reported where the file is read for its boxes
            names.update(
                name for node in root.iter("object") if (name := (node.findtext("name") or "").strip())
            )
    if not names:
        raise FocusDetrError(
            f"{split.root}: no annotation names an object. Check the xml files, or add labels.txt."
        )
    return sorted(names)


def _image_files(folder: Path, log: ProblemLog) -> dict[str, Path]:
    """Image paths by file name and by stem."""
    by_name: dict[str, Path] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if not is_image_file(path):
            continue
        by_name[path.name] = path
        if path.stem in by_name:
            log.add(
                "duplicate-image-name",
                "warning",
                path,
                f"{by_name[path.stem].name} has the same name but for the ending; the annotation's "
                "<filename> decides",
                "Keep one of them.",
            )
        by_name.setdefault(path.stem, path)
    return by_name


def _parse(file: Path, log: ProblemLog) -> ElementTree.Element | None:
    try:
        return ElementTree.parse(file).getroot()
    except FileNotFoundError:
        log.add(
            "missing-annotation", "error", file, "listed in the split but not there", "Add it or unlist it."
        )
    except (ElementTree.ParseError, OSError) as error:
        log.add(
            "bad-annotation",
            "error",
            file,
            f"not readable as xml ({error})",
            "It may be empty: write it again.",
        )
    return None


def _declared_size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = int(root.findtext("size/width", "")), int(root.findtext("size/height", ""))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _boxes(root: ElementTree.Element, label_of: dict[str, int], file: Path, log: ProblemLog) -> list[RawBox]:
    boxes = []
    for node in root.iter("object"):
        name = (node.findtext("name") or "").strip()
        if name not in label_of:
            log.add(
                "unknown-class",
                "error",
                file,
                f"an object of class {name!r}, not a known one, was left out",
                f"Known classes: {', '.join(label_of)}.",
            )
            continue
        try:
            left, top, right, bottom = (
                float(node.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError:
            log.add(
                "bad-box",
                "error",
                file,
                f"a {name} without four numbers in <bndbox> was left out",
                "Correct it.",
            )
            continue
        # An empty box must stay empty, and tools that count from 0 must not be pushed outside the image.
        shift_x = 1 if left >= 1 and right > left else 0
        shift_y = 1 if top >= 1 and bottom > top else 0
        boxes.append(RawBox((left - shift_x, top - shift_y, right, bottom), label_of[name]))
    return boxes

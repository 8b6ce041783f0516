"""Pascal VOC: JPEGImages + Annotations + ImageSets/Main and relatives, or xml files beside their images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from focus_detr.data.formats.reading import UnreadableFileError, read_lines, read_start, read_xml
from focus_detr.data.formats.searching import files_below, files_in, folders_in, is_image_file
from focus_detr.data.formats.source import Fault, ProblemLog, RawImage, Source, Tally
from focus_detr.data.formats.values import size
from focus_detr.data.formats.voc_drawn import drawn_folder, with_drawn_masks
from focus_detr.data.formats.voc_lists import read_lists
from focus_detr.data.formats.voc_objects import object_name, read_objects
from focus_detr.errors import FocusDetrError
from focus_detr.printable import in_line, in_number

WHOLE = "all"
_LABEL_FILES = ("labels.txt", "classes.txt")
# In lower case; those of FiftyOne (data, labels) and what people name them.
_XML_FOLDERS = ("annotations", "annotation", "labels", "xmls", "xml")
_IMAGE_FOLDERS = ("jpegimages", "images", "data", "image", "imgs", "img")
_PROBES = 16
_SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")

_STALE = Fault(
    "stale-filename",
    "warning",
    "{count} annotation[|s] [has|have] a <filename> other than that of the image with [its|their] "
    "own name, which is used",
    "Correct the <filename>.",
)


@dataclass(frozen=True)
class _Place:
    xml_folder: Path
    image_folder: Path


@dataclass(frozen=True)
class VocSplit:
    """`stems`: the annotations asked for, in order, as paths in `xml_folder` without ending. `xml_folders`:
    all that class names are taken from."""

    root: Path
    xml_folder: Path
    image_folder: Path
    stems: tuple[str, ...]
    xml_folders: tuple[Path, ...]


def find_splits(root: Path) -> dict[str, VocSplit]:
    """Splits by name: the lists of ImageSets/Main, the folders that hold xml files, or "all"."""
    if not root.is_dir():
        return {}
    inner = folders_in(root)
    place = _place(root, inner)
    if place is not None:
        stems = _stems(place.xml_folder)
        lists = read_lists(root / "ImageSets", stems) if stems else {}
        return {
            name: VocSplit(root, place.xml_folder, place.image_folder, listed_stems, (place.xml_folder,))
            for name, listed_stems in (lists or {WHOLE: stems}).items()
        }
    places = {folder.name: found for folder in inner if (found := _split_place(folder)) is not None}
    xml_folders = tuple(found.xml_folder for found in places.values())
    return {
        name: VocSplit(root, found.xml_folder, found.image_folder, _stems(found.xml_folder), xml_folders)
        for name, found in places.items()
    }


def read_split(split: VocSplit, log: ProblemLog, masks: bool = False) -> Source:
    """VOC counts pixels from 1 and includes the last one: a box xmin..xmax covers [xmin - 1, xmax].

    Masks are those of <polygon>, or else of the pictures in SegmentationObject.
    Objects marked `difficult` are ordinary objects here.
    """
    names = _class_names(split)
    label_of = {name: label for label, name in enumerate(names)}
    pictures = _Pictures(split.image_folder, log)
    stale = Tally(split.root, log)
    drawn = drawn_folder(split.xml_folder) if masks else None
    images: list[RawImage] = []
    for stem in dict.fromkeys(split.stems):
        file = _xml_file(split.xml_folder, stem)
        try:
            root = read_xml(file)
            if next(root.iter("annotation"), None) is None:
                raise UnreadableFileError(f"{file}: holds no <annotation>, as those of VOC do.")
        except UnreadableFileError as error:
            _report_unreadable(file, error, log)
            continue
        file_name = root.findtext("filename", "").strip()
        path = pictures.find(stem, file_name)
        if file_name and path.name != file_name and pictures.has(file_name):
            stale.add(_STALE, f"{file.name}: {in_line(file_name, 120)}")
        boxes, lost = read_objects(root, label_of, file, log, masks)
        declared = size(root.findtext("size/width"), root.findtext("size/height"))
        if drawn is not None:
            boxes = with_drawn_masks(boxes, drawn / f"{stem}.png", declared, log)
        images.append(RawImage(path, None, declared, boxes, lost, annotation_file=file))
    stale.report()
    repeated = len(split.stems) - len(set(split.stems))
    if repeated:
        log.add(
            "duplicate-image-name",
            "warning",
            split.root,
            in_number(
                "{count} line[|s] [repeats|repeat] an image of the split's list; each is read once",
                repeated,
            ),
            "Remove the repeated lines.",
        )
    return Source(dict(enumerate(names)), images)


def _place(root: Path, inner: list[Path]) -> _Place | None:
    """Where xml files and pictures of `root` lie: in folders of the usual names, or in `root` itself."""
    by_name = {folder.name.lower(): folder for folder in inner}
    for name in _XML_FOLDERS:
        if name in by_name and _holds_voc(by_name[name]):
            folders = [by_name[image] for image in _IMAGE_FOLDERS if image in by_name]
            return _Place(by_name[name], next(iter(folders), root))
    return _Place(root, root) if _holds_voc(root, inner=False) else None


def _split_place(folder: Path) -> _Place | None:
    """Of a folder that is a split: xml files beside pictures, or in folders where its name says so."""
    place = _place(folder, folders_in(folder))
    if place is not None and place.xml_folder != folder and folder.name.lower() not in _SPLIT_FOLDERS:
        return None
    return place


def _holds_voc(folder: Path, inner: bool = True) -> bool:
    files = files_in(folder, ".xml")
    if not files:
        return inner and any(_holds_voc(below, inner=False) for below in folders_in(folder))
    # One that is empty or about something else says nothing of the others.
    starts = (read_start(file, 4096) for file in files[:: max(1, len(files) // _PROBES)])
    # UTF-16 has a NUL beside every letter.
    texts = [text for start in starts if (text := start.replace(b"\0", b"").strip())]
    return any(b"<annotation" in text.lower() for text in texts) or not texts


def _stems(folder: Path) -> tuple[str, ...]:
    found = files_below(folder, _is_xml) if folder.name.lower() in _XML_FOLDERS else files_in(folder, ".xml")
    return tuple(file.relative_to(folder).with_suffix("").as_posix() for file in found)


def _xml_file(folder: Path, stem: str) -> Path:
    file = folder / f"{stem}.xml"
    upper = folder / f"{stem}.XML"
    return upper if os.path.isfile(upper) and not os.path.lexists(file) else file


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and not path.name.startswith(".")


def _class_names(split: VocSplit) -> list[str]:
    """Names from labels.txt or classes.txt, else those of all annotations, sorted: the same for every
    split."""
    for name in _LABEL_FILES:
        if (split.root / name).is_file():
            return list(dict.fromkeys(read_lines(split.root / name)))
    names: set[str] = set()
    first_error: UnreadableFileError | None = None
    for folder in split.xml_folders:
        for stem in _stems(folder):
            try:
                root = read_xml(_xml_file(folder, stem))
            except UnreadableFileError as error:  # reported where the file is read for its boxes
                first_error = first_error or error
                continue
            names.update(name for node in root.iter("object") if (name := object_name(node)))
    if not names:
        reason = f" {first_error}" if first_error else ""
        raise FocusDetrError(
            f"{split.root}: no annotation names an object. Check the xml files, or add labels.txt.{reason}"
        )
    return sorted(names)


def _report_unreadable(file: Path, error: UnreadableFileError, log: ProblemLog) -> None:
    if os.path.lexists(file):
        message = str(error).removeprefix(f"{file}: ")
        log.add("bad-annotation", "error", file, message, "The image was left out.")
    else:
        log.add(
            "missing-annotation", "error", file, "listed in the split but not there", "Add it or unlist it."
        )


class _Pictures:
    """The pictures below a folder, by their path without ending, and by name."""

    def __init__(self, folder: Path, log: ProblemLog) -> None:
        self._folder, self._log = folder, log
        self._by_stem: dict[str, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for path in files_below(folder, is_image_file):
            stem = path.relative_to(folder).with_suffix("").as_posix()
            self._by_stem.setdefault(stem, []).append(path)
            self._by_name.setdefault(path.name, []).append(path)

    def has(self, name: str) -> bool:
        return name in self._by_name

    def find(self, stem: str, file_name: str) -> Path:
        """The picture of an annotation: of its own name, since `<filename>` may be that of before a renaming;
        of several, or without one, the `<filename>` decides."""
        own = self._by_stem.get(stem, [])
        if len(own) > 1:
            self._log.add(
                "duplicate-image-name",
                "warning",
                own[1],
                f"{own[0].name} has the same name but for the ending; the annotation's <filename> decides",
                "Keep one of them.",
            )
        named = next((path for path in own if path.name == file_name), None)
        if named is not None or own:
            return named or own[0]
        parent = Path(stem).parent
        name = file_name.replace("\\", "/").rpartition("/")[2]
        places = [path for path in self._by_name.get(name, []) if path.parent == self._folder / parent]
        alike = places or self._by_name.get(name, [])
        by_bare_stem = [] if alike else self._by_stem.get(Path(stem).name, [])
        return next(iter([*alike, *by_bare_stem]), self._folder / (file_name and name or f"{stem}.jpg"))

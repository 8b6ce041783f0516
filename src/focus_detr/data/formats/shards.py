"""Shards: tar files of pictures, each beside a json of its objects, as WebDataset reads them.

``0001.jpg`` and ``0001.json`` of one archive are one sample; the json is COCO's entry of the image with its
``annotations``. ``categories.json``, COCO's list, lies beside the archives. Where each sample lies is kept in
an index beside its archive, so that any sample is read by itself: any order, any number of processes.
"""

from __future__ import annotations

import json
import logging
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus_detr.data.formats import coco
from focus_detr.data.formats.coco_objects import attach_objects
from focus_detr.data.formats.reading import read_json
from focus_detr.data.formats.searching import files_in, folders_in, is_image_file
from focus_detr.data.formats.source import Fault, ProblemLog, RawImage, Source, Tally
from focus_detr.data.formats.values import id_key, size, whole_id
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.images.archives import member_path

logger = logging.getLogger(__name__)

CATEGORIES = "categories.json"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_NUMBER = re.compile(r"[-_.]*\d+$")
_MOST = 100_000  # shards that one pattern may stand for
_JSON_LIMIT = 8 << 20  # of one sample
_VERSION = 1

_ALONE = Fault(
    "missing-annotation",
    "error",
    "{count} picture[|s] [has|have] no json of the same name beside [it|them], and [was|were] left out",
    "Write one for each picture, with an empty list of annotations where it shows nothing.",
)
_NO_PICTURE = Fault(
    "missing-image",
    "error",
    "{count} json file[|s] [has|have] no picture beside [it|them]",
    "Add it or remove the json.",
)
_BROKEN = Fault(
    "bad-annotation",
    "error",
    "{count} [json file is none, or holds|json files are none, or hold] no list 'annotations'",
    "Write them again.",
)


@dataclass(frozen=True)
class Member:
    """A sample of an archive: its picture's place, and the json beside it."""

    name: str
    offset: int
    length: int
    entry: Any


def is_pattern(root: Path) -> bool:
    """Whether a path stands for archives: one, or several by braces (``train-{000..015}.tar``)."""
    return root.suffix == ".tar" and (bool(_BRACES.search(str(root))) or root.is_file())


def expanded(pattern: str) -> list[str]:
    """Names that braces stand for: ``{000..015}`` numbers, ``{train,val}`` words.

    Raises:
        FocusDetrError: they stand for none, or for too many.
    """
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    numbers = _RANGE.fullmatch(found[1])
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < _MOST:
            raise FocusDetrError(f"{pattern}: {found[0]} must be a range upwards, of {_MOST} at most.")
        words = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
    else:
        words = found[1].split(",")
    names = [
        name for word in words for name in expanded(pattern[: found.start()] + word + pattern[found.end() :])
    ]
    if len(names) > _MOST:
        raise FocusDetrError(f"{pattern}: stands for more than {_MOST} archives.")
    return names


def find_splits(root: Path) -> dict[str, list[Path]]:
    """Archives by split: the name before their number, or the folder's where there is none."""
    if is_pattern(root):
        archives = [Path(name) for name in expanded(str(root))]
        if missing := [archive for archive in archives if not archive.is_file()]:
            raise FocusDetrError(
                f"{root}: stands for {len(archives)} archives, {len(missing)} of which are not there, "
                f"{missing[0]} for one."
            )
    elif root.is_dir():
        named = (root / CATEGORIES).is_file()
        places = [place for place in (root, *folders_in(root)) if named or (place / CATEGORIES).is_file()]
        archives = [file for place in places for file in files_in(place, ".tar")]
    else:
        return {}
    splits: dict[str, list[Path]] = {}
    for archive in archives:
        splits.setdefault(_NUMBER.sub("", archive.stem) or archive.parent.name, []).append(archive)
    return splits


def read_split(archives: list[Path], log: ProblemLog, masks: bool = False) -> Source:
    """Raises `FocusDetrError` where an archive cannot be read, or says nothing of its categories."""
    categories_file = _categories_file(archives[0])
    listed = read_json(categories_file)
    entries = listed.get("categories") if isinstance(listed, dict) else listed
    if not isinstance(entries, list):
        raise FocusDetrError(f"{categories_file}: must be a list of categories with 'id' and 'name'.")
    images: dict[str, RawImage] = {}
    annotations: list[dict[str, Any]] = []
    for archive in archives:
        tally = Tally(archive, log)
        for member in members(archive, tally):
            image, objects = _image(archive, member, str(len(images)))
            images[str(len(images))] = image
            annotations += objects
        tally.report()
    used = {id_key(annotation.get("category_id")) for annotation in annotations}
    categories, stands_for = coco.read_categories(entries, used, categories_file, log)
    attach_objects(annotations, images, stands_for, categories_file, log, masks)
    return Source(categories, list(images.values()))


def _categories_file(archive: Path) -> Path:
    for folder in (archive.parent, archive.parent.parent):
        if (folder / CATEGORIES).is_file():
            return folder / CATEGORIES
    raise FocusDetrError(
        f"{archive.parent / CATEGORIES}: not there. Write COCO's list of categories into it: "
        '[{"id": 1, "name": "cat"}, ...].'
    )


def _image(archive: Path, member: Member, key: str) -> tuple[RawImage, list[dict[str, Any]]]:
    """An image and its annotations, which name it by ``key``: numbers may begin anew in each archive."""
    entry = member.entry
    image = RawImage(
        path=member_path(archive, member.offset, member.length, member.name),
        image_id=whole_id(entry.get("id", entry.get("image_id"))),
        declared_size=size(entry.get("width"), entry.get("height")),
        annotation_file=archive,
    )
    return image, [
        {name: value for name, value in each.items() if name != "id"} | {"image_id": key}
        if isinstance(each, dict)
        else {"image_id": key}
        for each in entry["annotations"]
    ]


def members(archive: Path, tally: Tally) -> list[Member]:
    """The samples of an archive, from the index beside it, which is written where there is none."""
    file = archive.with_name(f"{archive.name}.index")
    state = archive.stat()
    identity = {"version": _VERSION, "bytes": state.st_size, "changed": state.st_mtime_ns}
    try:
        kept = json.loads(file.read_bytes())
        if kept["archive"] == identity and not kept["faults"]:
            return [Member(*each) for each in kept["members"]]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    found, faults = _scan(archive)
    for fault, example in faults:
        tally.add(fault, example)
    listed = [[each.name, each.offset, each.length, each.entry] for each in found]
    content = {"archive": identity, "faults": len(faults), "members": listed}
    try:
        with whole_file(file) as stream:
            stream.write(json.dumps(content).encode())
    except OSError as error:  # read again the next time
        logger.info("%s: not written (%s); each start reads the whole archive", file, error.strerror)
    return found


def _scan(archive: Path) -> tuple[list[Member], list[tuple[Fault, str]]]:
    pictures: dict[str, tarfile.TarInfo] = {}
    entries: dict[str, Any] = {}
    faults: list[tuple[Fault, str]] = []
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                folder, _, name = info.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = f"{folder}/{key}"
                if not info.isfile() or info.sparse:
                    continue
                if is_image_file(Path(info.name)):
                    pictures[key] = info
                elif suffix.lower() == "json":
                    stream = tar.extractfile(info) if info.size <= _JSON_LIMIT else None
                    entry = _parsed(stream.read()) if stream is not None else None
                    if entry is None:
                        faults.append((_BROKEN, info.name))
                    else:
                        entries[key] = entry
    except (tarfile.TarError, OSError, EOFError) as error:
        raise FocusDetrError(
            f"{archive}: cannot be read as a tar file ({error}). It may be cut short, or compressed: shards "
            "are read by place, and must not be."
        ) from error
    faults += [(_ALONE, info.name) for key, info in pictures.items() if key not in entries]
    faults += [(_NO_PICTURE, f"{key}.json") for key in entries if key not in pictures]
    found = [
        Member(info.name, info.offset_data, info.size, entries[key])
        for key, info in pictures.items()
        if key in entries
    ]
    return found, faults


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(content)
    except (ValueError, RecursionError):
        return None
    listed = isinstance(entry, dict) and isinstance(entry.get("annotations"), list)
    return entry if listed else None

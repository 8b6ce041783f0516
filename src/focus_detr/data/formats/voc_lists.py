"""The lists of VOC's ImageSets: a file a split, or (VoTT) only a file a class and split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from focus_detr.data.formats.locating import tails
from focus_detr.data.formats.reading import LIST_LIMIT, read_lines
from focus_detr.data.formats.searching import files_in, is_image_file

# VOC's per-class lists: a name, then whether the class is in the image (1), not (-1) or hard to see (0).
_CLASS_ROW = re.compile(r"(.*\S)\s+(?:-1|0|1)")


def read_lists(image_sets: Path, stems: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Annotations (of `stems`, where they are among them) by split, in the order of the lists."""
    known = frozenset(stems)
    splits: dict[str, tuple[str, ...]] = {}
    of_classes: dict[str, list[str]] = {}
    for file in files_in(image_sets / "Main", ".txt") or files_in(image_sets, ".txt"):
        rows = read_lines(file, LIST_LIMIT)
        columns = [match[1] for row in rows if (match := _CLASS_ROW.fullmatch(row))]
        whole = [_stem(row, known) for row in rows]
        # "scan 0" and "scan 1" are rows of a class, or images of that name: the annotations there decide.
        if rows and len(columns) == len(rows) and not any(stem in known for stem in whole):
            split = file.stem.rpartition("_")[2]
            of_classes.setdefault(split, []).extend(_stem(column, known) for column in columns)
        else:
            splits[file.stem] = tuple(whole)
    return splits or {split: tuple(dict.fromkeys(found)) for split, found in of_classes.items()}


def _stem(row: str, known: frozenset[str]) -> str:
    """The annotation that a row names: perhaps quoted (CVAT), with an ending, with folders of elsewhere."""
    name = row[1:-1] if len(row) > 2 and row[0] == row[-1] == '"' else row
    without_ending = str(Path(name.replace("\\", "/")).with_suffix("")) if is_image_file(Path(name)) else name
    found = (part for part in tails(without_ending) if part in known)
    return next(found, without_ending)

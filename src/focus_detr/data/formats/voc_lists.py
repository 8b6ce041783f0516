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
    for file in _files(image_sets):
        rows = read_lines(file, LIST_LIMIT)
        columns = [match[1] for row in rows if (match := _CLASS_ROW.fullmatch(row))]
        whole = [_stem(row, known) for row in rows]
        # "scan 0" and "scan 1" are rows of a class, or images of that name: the annotations there decide.
        if rows and len(columns) == len(rows) and not any(stem in known for stem in whole):
            split = file.stem.rpartition("_")[2]
            if (
                split == file.stem
            ):  # no class before it: the split's own list, with a column that says nothing
                splits[split] = tuple(_stem(column, known) for column in columns)
                continue
            of_classes.setdefault(split, []).extend(_stem(column, known) for column in columns)
        else:
            splits[file.stem] = tuple(whole)
    return splits or {split: tuple(dict.fromkeys(found)) for split, found in of_classes.items()}


def _files(image_sets: Path) -> list[Path]:
    places = (image_sets / "Main", image_sets, image_sets / "Segmentation")
    return next((files for place in places if (files := files_in(place, ".txt"))), [])


def _stem(row: str, known: frozenset[str]) -> str:
    """The annotation that a row names: perhaps quoted (CVAT), with an ending, with folders of elsewhere, or
    picture and annotation beside each other (Paddle)."""
    name = row[1:-1] if len(row) > 2 and row[0] == row[-1] == '"' else row
    without_ending = _without_ending(name)
    found = (part for part in tails(without_ending) if part in known)
    if (stem := next(found, None)) is not None:
        return stem
    columns = [_without_ending(column) for column in row.split()]
    of_columns = {next((part for part in tails(column) if part in known), None) for column in columns}
    stem = of_columns.pop() if len(columns) == 2 and len(of_columns) == 1 else None
    return without_ending if stem is None else stem


def _without_ending(name: str) -> str:
    path = Path(name.replace("\\", "/"))
    return str(path.with_suffix("")) if is_image_file(path) or path.suffix.lower() == ".xml" else name

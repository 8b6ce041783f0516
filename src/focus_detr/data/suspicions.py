"""What looks wrong about a data set as a whole, though every file can be read: told by `focus-detr check`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.records import Problem, Record
from focus_detr.data.same_files import same_files
from focus_detr.printable import counted, in_number, listed

_FILLED = 0.95
_FEW_CLASSES = 5


def suspicions(dataset: DetectionDataset) -> list[Problem]:
    """Warnings about the classes and boxes of one split."""
    pictures_of = _pictures_of_classes(dataset)
    found: list[Problem] = []

    def warn(kind: str, message: str, fix: str) -> None:
        found.append(Problem(kind, "warning", dataset.name, message, fix))

    names = dataset.class_names
    unused = [name for name, count in zip(names, pictures_of, strict=True) if count == 0]
    if unused:
        warn(
            "unused-classes",
            in_number(
                "{count} of " + counted(len(names), "class", "classes") + " [has|have] no object in ",
                len(unused),
            )
            + f"{dataset.split!r}: {listed(unused)}",
            "Find pictures of them, or leave them out: what is not shown is neither learned nor measured.",
        )
    used = len(names) - len(unused)
    lonely = [name for name, count in zip(names, pictures_of, strict=True) if count == 1]
    if used >= _FEW_CLASSES and len(lonely) >= 0.8 * used:
        warn(
            "one-picture-classes",
            f"{len(lonely)} of {used} classes are in one picture each: {listed(lonely)}",
            "Are these the names of classes, or of pictures (places, dates, numbers)?",
        )
    with_objects = [record for record in dataset.records if len(record.labels)]
    filled = [record for record in with_objects if _is_filled(record)]
    if len(filled) > len(with_objects) / 2:
        warn(
            "boxes-fill-pictures",
            in_number(
                "{count} of " + counted(len(with_objects), "picture") + " [has|have] a box over ", len(filled)
            )
            + f"{_FILLED:.0%} of its area, "
            f"{filled[0].path} for one",
            "Labels of whole pictures teach no detector where things are: draw boxes around objects.",
        )
    return found


def same_pictures(datasets: Mapping[str, DetectionDataset]) -> dict[str, list[Problem]]:
    """Warnings by split about pictures that are there twice, as one file or byte for byte: in it or in
    an earlier split."""
    places = [(split, record.path) for split, dataset in datasets.items() for record in dataset.records]
    groups = [
        [places[position] for position in group]
        for group in same_files([path for _, path in places])
        if len(group) > 1
    ]
    found: dict[str, list[Problem]] = {split: [] for split in datasets}
    for split, dataset in datasets.items():
        repeated: dict[str, list[tuple[Path, Path]]] = defaultdict(list)
        for group in groups:
            own = [path for other, path in group if other == split]
            earlier = next(iter(group))
            if own and earlier[0] != split:
                repeated[earlier[0]].append((own[0], earlier[1]))
            repeated[split] += [(path, own[0]) for path in own[1:]]
        for other, pairs in repeated.items():
            if not pairs:
                continue
            kind, message, fix = _IN_ONE if other == split else _IN_TWO
            message = in_number(message, len(pairs)).format(
                other=other, first=pairs[0][0], second=pairs[0][1]
            )
            found[split].append(Problem(kind, "warning", dataset.name, message, fix))
    return found


_IN_TWO = (
    "picture-in-two-splits",
    "{count} picture[|s] [is|are] also in the split {other!r}: {first} is the same picture as {second}",
    "Take them out of one: figures on pictures that were learned say nothing of others.",
)
_IN_ONE = (
    "identical-pictures",
    "{count} picture[|s] [is|are] byte for byte the same as another of the split: {first} and {second}",
    "Keep one of each.",
)


def _pictures_of_classes(dataset: DetectionDataset) -> list[int]:
    """In how many pictures every class has an object."""
    labels = np.concatenate([np.unique(record.labels) for record in dataset.records])
    return np.bincount(labels, minlength=len(dataset.class_names)).tolist()


def _is_filled(record: Record) -> bool:
    width, height = (1, 1) if record.relative else record.size
    left, top, right, bottom = record.boxes.T.astype(np.float64)
    return bool(((right - left) * (bottom - top) >= _FILLED * width * height).any())

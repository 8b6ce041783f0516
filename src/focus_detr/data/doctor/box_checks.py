"""Objects that are labelled twice, and boxes of odd shape."""

# Shapes: T objects of a picture.

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from focus_detr.data.doctor.findings import Box, Example, Finding, Subject
from focus_detr.data.records import Record
from focus_detr.printable import in_number

SAME = 0.9
"""Overlap (IoU) from which two boxes are taken for one object's."""
_ELONGATED = 20.0
_SHOWN = 6


def nearly_doubled_boxes(subject: Subject) -> Iterator[Finding]:
    """Objects of one class with nearly the same box."""
    for split, dataset in subject.datasets.items():
        found = []
        for record in dataset.records:
            pairs = overlapping(record, same_class=True)
            found += [(record, int(later)) for later in dict.fromkeys(pairs[:, 1].tolist())]
        if found:
            yield Finding(
                "nearly-doubled-box",
                "warning",
                str(found[0][0].path),
                f"{len(found)} boxes overlap an earlier one of their class by {SAME:.0%} or more",
                "Keep one of each, where it is one object.",
                split,
                mended=True,
                examples=tuple(
                    Example(record.path, box_of(record, row), dataset.class_names[record.labels[row]])
                    for record, row in found[:_SHOWN]
                ),
            )


def boxes_in_two_classes(subject: Subject) -> Iterator[Finding]:
    """Objects of two classes with nearly the same box."""
    for split, dataset in subject.datasets.items():
        found = [
            (record, pair)
            for record in dataset.records
            for pair in overlapping(record, same_class=False).tolist()
        ]
        if not found:
            continue
        names = dataset.class_names
        yield Finding(
            "box-in-two-classes",
            "warning",
            str(found[0][0].path),
            in_number(
                "{count} [box is|boxes are], but for a tenth, [that|those] of an object of another class",
                len(found),
            ),
            "Keep the right class; nothing can be both for a detector.",
            split,
            examples=tuple(
                Example(
                    record.path,
                    box_of(record, late),
                    " and ".join(names[record.labels[row]] for row in (early, late)),
                )
                for record, (early, late) in found[:_SHOWN]
            ),
        )


def elongated_boxes(subject: Subject) -> Iterator[Finding]:
    """Objects many times as long as wide, which are often slips of the mouse."""
    for split, dataset in subject.datasets.items():
        found = []
        for record in dataset.records:
            width, height = _sides(record)
            ratio = np.maximum(width, height) / np.maximum(np.minimum(width, height), 1e-9)
            found += [(record, int(row), float(ratio[row])) for row in np.flatnonzero(ratio > _ELONGATED)]
        if found:
            found.sort(key=lambda item: -item[2])
            record, _, worst = found[0]
            yield Finding(
                "elongated-box",
                "warning",
                str(record.path),
                in_number("{count} [box is|boxes are] over ", len(found))
                + f"{_ELONGATED:.0f} times as long as wide, {worst:.0f} at most",
                "Look at them: a slip of the mouse, or something as thin as that.",
                split,
                examples=tuple(
                    Example(
                        record.path,
                        box_of(record, row),
                        f"{dataset.class_names[record.labels[row]]}, {ratio:.0f} : 1",
                    )
                    for record, row, ratio in found[:_SHOWN]
                ),
            )


def overlapping(record: Record, same_class: bool) -> np.ndarray:
    """Pairs (E,2) of rows, the earlier one first, whose boxes are nearly one."""
    boxes, labels = record.boxes.astype(np.float64), record.labels
    if len(labels) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(opposite - corner, 0, None).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    near = common >= SAME * (areas[:, None] + areas[None] - common)
    alike = labels[:, None] == labels[None]
    return np.argwhere(np.triu(near & (alike == same_class), 1))


def box_of(record: Record, row: int) -> Box:
    """In pixels."""
    left, top, right, bottom = record.boxes_xyxy[row].tolist()
    return left, top, right, bottom


def _sides(record: Record) -> tuple[np.ndarray, np.ndarray]:
    scale = np.asarray(record.size if record.relative else (1, 1), dtype=np.float64)
    width, height = ((record.boxes[:, 2:] - record.boxes[:, :2]) * scale).T
    return width, height

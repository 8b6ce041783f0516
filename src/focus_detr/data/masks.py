"""Whether the objects of a data set have masks, which not every label says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from focus_detr.data.formats.source import ProblemLog
from focus_detr.data.records import Record
from focus_detr.errors import FocusDetrError


def lacks_masks(record: Record) -> int:
    """How many objects of an image have no mask."""
    masks = record.stated.masks
    return len(record.labels) if masks is None else sum(mask is None for mask in masks)


def count_masks(records: Sequence[Record], root: Path, log: ProblemLog) -> None:
    """Report objects without masks.

    Raises:
        FocusDetrError: none has one.
    """
    objects = sum(len(record.labels) for record in records)
    lacking = [(record, count) for record in records if (count := lacks_masks(record))]
    count = sum(count for _, count in lacking)
    if not count:
        return
    first = lacking[0][0].path
    if count == objects:
        raise FocusDetrError(
            f"{root}: none of its {objects} objects has a mask, {first.name} for one: segmentation needs "
            "polygons or run lengths of COCO ('segmentation'), or polygons in the rows of YOLO; to learn "
            "boxes alone, leave out task segment"
        )
    log.add(
        "no-mask",
        "warning",
        first,
        f"{count} of {objects} objects have no mask, here and in {len(lacking) - 1} other images",
        "Their boxes are learned, and nothing of their masks.",
    )

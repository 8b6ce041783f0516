"""Whether the objects of a data set have masks, which not every label says."""

from __future__ import annotations

from collections.abc import Sequence

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.source import ProblemLog
from focus_detr.data.records import Record
from focus_detr.errors import FocusDetrError
from focus_detr.printable import counted, in_number


def lacks_masks(record: Record) -> int:
    """How many objects of an image have no mask."""
    masks = record.stated.masks
    return len(record.labels) if masks is None else sum(mask is None for mask in masks)


def has_masks(records: Sequence[Record]) -> bool:
    """Whether any object has one."""
    return any(len(record.labels) > lacks_masks(record) for record in records)


def count_masks(records: Sequence[Record], log: ProblemLog) -> None:
    """Report objects without masks."""
    lacking = [(record, count) for record in records if (count := lacks_masks(record))]
    if lacking:
        objects, count = sum(len(record.labels) for record in records), sum(count for _, count in lacking)
        log.add(
            "no-mask",
            "warning",
            lacking[0][0].path,
            in_number("{count} of " + counted(objects, "object") + " [has|have] no mask, here and in ", count)
            + counted(len(lacking) - 1, "other image"),
            "Their boxes are learned, and nothing of their masks.",
        )


def refuse_without_masks(dataset: DetectionDataset) -> None:
    """Raise `FocusDetrError` where no object has a mask."""
    if has_masks(dataset.records):
        return
    first = next((record.path.name for record in dataset.records if len(record.labels)), "any")
    raise FocusDetrError(
        f"{dataset.name}: no object of {dataset.split!r} has a mask, in {first} for one: segmentation learns "
        "from polygons or run lengths of COCO ('segmentation'), polygons of YOLO or VOC, or VOC's pictures "
        "of objects (SegmentationObject), read with masks=True; to learn boxes alone, leave --task segment "
        "out, or say --set model.heads=[]"
    )

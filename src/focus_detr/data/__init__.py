"""Data: formats -> DetectionDataset -> transforms -> Collator -> batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.images.reading import read_image
from focus_detr.lazy import imported_on_use

if TYPE_CHECKING:
    from focus_detr.data.collate import Collator as Collator
    from focus_detr.data.dataset import DetectionDataset as DetectionDataset
    from focus_detr.data.formats.recognise import list_splits as list_splits
    from focus_detr.data.formats.recognise import load_dataset as load_dataset
    from focus_detr.data.records import Problem as Problem
    from focus_detr.data.records import Record as Record
    from focus_detr.data.records import Sample as Sample
    from focus_detr.data.transforms.augmentations import build_transforms as build_transforms
    from focus_detr.data.transforms.dataset import TransformedDataset as TransformedDataset

_HOME = {
    "Collator": "collate",
    "DetectionDataset": "dataset",
    "Problem": "records",
    "Record": "records",
    "Sample": "records",
    "TransformedDataset": "transforms.dataset",
    "build_transforms": "transforms.augmentations",
    "list_splits": "formats.recognise",
    "load_dataset": "formats.recognise",
}

__all__ = [*_HOME, "read_image"]
__getattr__ = imported_on_use(__name__, _HOME)

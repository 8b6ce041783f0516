"""Data: formats -> DetectionDataset -> transforms -> Collator -> batch."""

from focus_detr.data.collate import Collator
from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats import list_splits, load_dataset
from focus_detr.data.grid import sample_grid
from focus_detr.data.images import read_image
from focus_detr.data.recipes import build_transforms
from focus_detr.data.records import Problem, Record, Sample
from focus_detr.data.transformed import TransformedDataset

__all__ = [
    "Collator",
    "DetectionDataset",
    "Problem",
    "Record",
    "Sample",
    "TransformedDataset",
    "build_transforms",
    "list_splits",
    "load_dataset",
    "read_image",
    "sample_grid",
]

"""Data: formats -> DetectionDataset -> transforms -> Collator -> batch."""

from focus_detr.data.collate import Collator
from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.recognise import list_splits, load_dataset
from focus_detr.data.records import Problem, Record, Sample
from focus_detr.data.transforms.augmentations import build_transforms
from focus_detr.data.transforms.dataset import TransformedDataset
from focus_detr.images.reading import read_image

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
]

"""Inference: sources in, detections and pictures out."""

from focus_detr.inference.crops import write_crops
from focus_detr.inference.labels import write_voc, write_yolo
from focus_detr.inference.mask_pictures import write_masks
from focus_detr.inference.predictor import Detector, Predictor
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.files import expand_sources
from focus_detr.inference.writers import write_coco, write_csv, write_jsonl

__all__ = [
    "BadImage",
    "Detections",
    "Detector",
    "Predictor",
    "expand_sources",
    "write_coco",
    "write_crops",
    "write_csv",
    "write_jsonl",
    "write_masks",
    "write_voc",
    "write_yolo",
]

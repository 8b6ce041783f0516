"""Inference: sources in, detections and pictures out."""

from focus_detr.inference.predictor import Detector, Predictor
from focus_detr.inference.results import BadImage, Detections, write_coco, write_csv, write_jsonl
from focus_detr.inference.sources import expand_sources

__all__ = [
    "BadImage",
    "Detections",
    "Detector",
    "Predictor",
    "expand_sources",
    "write_coco",
    "write_csv",
    "write_jsonl",
]

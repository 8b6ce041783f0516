"""Inference: sources in, detections and pictures out.

Names are imported on first use: what an exported model needs is there without torch, and without YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

if TYPE_CHECKING:
    from focus_detr.inference.crops import write_crops as write_crops
    from focus_detr.inference.labels import write_voc as write_voc
    from focus_detr.inference.labels import write_yolo as write_yolo
    from focus_detr.inference.mask_pictures import write_masks as write_masks
    from focus_detr.inference.predictor import Detector as Detector
    from focus_detr.inference.predictor import Predictor as Predictor
    from focus_detr.inference.results import BadImage as BadImage
    from focus_detr.inference.results import Detections as Detections
    from focus_detr.inference.sources.files import expand_sources as expand_sources
    from focus_detr.inference.writers import write_coco as write_coco
    from focus_detr.inference.writers import write_csv as write_csv
    from focus_detr.inference.writers import write_jsonl as write_jsonl

_HOME = {
    "BadImage": "results",
    "Detections": "results",
    "Detector": "predictor",
    "Predictor": "predictor",
    "expand_sources": "sources.files",
    "write_coco": "writers",
    "write_crops": "crops",
    "write_csv": "writers",
    "write_jsonl": "writers",
    "write_masks": "mask_pictures",
    "write_voc": "labels",
    "write_yolo": "labels",
}

__all__ = list(_HOME)
__getattr__ = imported_on_use(__name__, _HOME)

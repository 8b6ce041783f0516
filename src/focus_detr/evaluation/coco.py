"""COCO average precision and recall, computed by faster-coco-eval; equal to those of pycocotools."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_DETECTIONS = (1, 10, 100, 300)
"""Detections an image that recall is given for. Average precision uses 100, as pycocotools does."""
_AP_DETECTIONS = MAX_DETECTIONS.index(100)
_SIZES = ("all", "small", "medium", "large")
IOU = np.linspace(0.5, 0.95, 10)

Predictions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ClassMetrics:
    """Measures of one class; NaN where the data set has no object of it."""

    name: str
    images: int
    objects: int
    ap: float
    ap50: float
    ap75: float
    ar100: float


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's measures, 0..1; NaN where there is nothing to measure (no object of a class, or of a size).

    Attributes:
        summary: AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100, AR300, AR_small, AR_medium,
            AR_large. AP and the recalls by size consider the 100 best detections of each image and class.
        per_class: in label order.
        precision: (k,101) at IoU 0.5, interpolated, at the recalls 0, 0.01, ... 1; NaN without objects.
        images, objects: how many were scored (crowd regions are not objects).
    """

    summary: dict[str, float]
    per_class: list[ClassMetrics]
    precision: np.ndarray = field(repr=False)
    images: int
    objects: int


def coco_metrics(
    ground_truth: Mapping[str, Any], predictions: Predictions, *, masks: bool = False
) -> CocoMetrics:
    """Score predictions by COCO's protocol, for boxes or for masks.

    Args:
        ground_truth: a COCO json dictionary (`DetectionDataset.to_coco()`); all its images are scored.
        predictions: COCO results: `image_id`, `category_id`, `bbox` (left, top, width, height), `score`.
            Those of unknown images or categories do not count, as in pycocotools.
        masks: compare `segmentation`, compressed run lengths or polygons. Predictions without count for
            nothing; objects without are regions in which nothing is rewarded or punished.
    """
    if masks:
        ground_truth = without_maskless(ground_truth)
    categories = list(ground_truth["categories"])
    precision, recall = _accumulate(ground_truth, predictions, masks)
    # Precision is (IoU, recall, class, size, detections), recall (IoU, class, size, detections).
    order = {category_id: row for row, category_id in enumerate(sorted(c["id"] for c in categories))}
    best = _AP_DETECTIONS
    summary = {
        "AP": _mean(precision[:, :, :, 0, best]),
        "AP50": _mean(precision[_at(0.5), :, :, 0, best]),
        "AP75": _mean(precision[_at(0.75), :, :, 0, best]),
    }
    summary |= {
        f"AP_{name}": _mean(precision[:, :, :, size, best]) for size, name in enumerate(_SIZES) if size
    }
    summary |= {f"AR{count}": _mean(recall[:, :, 0, slot]) for slot, count in enumerate(MAX_DETECTIONS)}
    summary |= {f"AR_{name}": _mean(recall[:, :, size, best]) for size, name in enumerate(_SIZES) if size}

    objects = [item for item in ground_truth["annotations"] if not item.get("iscrowd", 0)]
    count = Counter(item["category_id"] for item in objects)
    images = Counter(
        category for _, category in {(item["image_id"], item["category_id"]) for item in objects}
    )
    per_class = []
    for category in categories:
        row = order[category["id"]]
        per_class.append(
            ClassMetrics(
                name=category["name"],
                images=images[category["id"]],
                objects=count[category["id"]],
                ap=_mean(precision[:, :, row, 0, best]),
                ap50=_mean(precision[_at(0.5), :, row, 0, best]),
                ap75=_mean(precision[_at(0.75), :, row, 0, best]),
                ar100=_mean(recall[:, row, 0, best]),
            )
        )
    rows = [order[category["id"]] for category in categories]
    curves = precision[_at(0.5)][:, rows, 0, best].T
    curves = np.where(curves < 0, np.nan, curves)
    return CocoMetrics(summary, per_class, curves, len(ground_truth["images"]), len(objects))


def _accumulate(
    ground_truth: Mapping[str, Any], predictions: Predictions, masks: bool
) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(IOU), 101, len(ground_truth["categories"]), len(_SIZES), len(MAX_DETECTIONS))
    if not ground_truth["images"] or not ground_truth["categories"]:
        return np.full(shape, -1.0), np.full((shape[0], *shape[2:]), -1.0)
    evaluation = coco_evaluation(ground_truth, predictions, MAX_DETECTIONS, masks=masks)
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"]).reshape(shape)
    return precision, np.asarray(evaluation.eval["recall"]).reshape(shape[0], *shape[2:])


def coco_evaluation(
    ground_truth: Mapping[str, Any],
    predictions: Predictions,
    max_detections: Sequence[int],
    *,
    masks: bool = False,
) -> Any:
    """faster-coco-eval's evaluation of every picture, not yet accumulated."""
    if masks:
        predictions = [item for item in predictions if "segmentation" in item]
    from faster_coco_eval import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    truth = _indexed(COCO(), ground_truth, ground_truth["annotations"])
    found = _indexed(
        COCO(), ground_truth, [_result(number, item, masks) for number, item in enumerate(predictions, 1)]
    )
    evaluation = COCOeval_faster(truth, found, "segm" if masks else "bbox", print_function=_silent)
    evaluation.params.maxDets = list(max_detections)
    evaluation.evaluate()
    return evaluation


def _indexed(coco: Any, ground_truth: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> Any:
    # Not loadRes: it refuses an empty list, and predictions for images outside the set.
    known = {image["id"] for image in ground_truth["images"]}
    coco.dataset = {
        "images": list(ground_truth["images"]),
        "categories": list(ground_truth["categories"]),
        "annotations": [dict(item) for item in annotations if item["image_id"] in known],
    }
    coco.createIndex()
    return coco


def without_maskless(ground_truth: Mapping[str, Any]) -> dict[str, Any]:
    """Objects without masks as crowd regions, of which only the box is known."""
    annotations = []
    for item in ground_truth["annotations"]:
        if "segmentation" not in item:
            left, top, width, height = item["bbox"]
            right, bottom = left + width, top + height
            box = [[left, top, right, top, right, bottom, left, bottom]]
            item = {**item, "segmentation": box, "iscrowd": 1}
        annotations.append(item)
    return {**ground_truth, "annotations": annotations}


def _result(number: int, item: Mapping[str, Any], masks: bool) -> dict[str, Any]:
    _, _, width, height = item["bbox"]
    area = width * height
    if masks:
        from faster_coco_eval.core.mask import area as area_of

        area = float(area_of(item["segmentation"]))
    return {**item, "id": number, "area": area, "iscrowd": 0}


def _silent(*_: Any) -> None:
    pass


def _at(iou: float) -> int:
    return int(np.argmin(np.abs(IOU - iou)))


def _mean(values: np.ndarray) -> float:
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else math.nan

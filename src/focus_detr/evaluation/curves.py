"""Score thresholds and confusions: what precision and recall become once a threshold is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from focus_detr.evaluation.matching import images_of, pairs, true_positives


@dataclass(frozen=True)
class F1Curve:
    """F1 over the score threshold, at IoU 0.5.

    Attributes:
        name: class, or "all" (objects of all classes pooled).
        thresholds: (S,) the distinct scores, rising; detections that reach one are reported.
        precision, recall, f1: (S,) at each.
        objects: ground-truth objects.
    """

    name: str
    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    objects: int

    @property
    def best(self) -> int | None:
        """Where F1 is highest; None where no detection is right."""
        return int(self.f1.argmax()) if self.f1.size and self.f1.max() > 0 else None

    @property
    def best_threshold(self) -> float | None:
        """The threshold of the highest F1, half-way down to the next score, where rounding cannot hurt."""
        if self.best is None:
            return None
        below = self.thresholds[self.best - 1] if self.best else 0.0
        return float((self.thresholds[self.best] + below) / 2)


def f1_curves(ground_truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> list[F1Curve]:
    """F1 curves of all classes pooled, then of each class in label order; arguments as `coco_metrics`."""
    scores, labels, correct, truth = (
        [np.zeros(0)],
        [np.zeros(0, int)],
        [np.zeros(0, bool)],
        [np.zeros(0, int)],
    )
    for image in images_of(ground_truth, predictions):
        right, counts = true_positives(image)
        scores.append(image.scores[counts])
        labels.append(image.found.labels[counts])
        correct.append(right[counts])
        truth.append(image.objects.labels)
    score, label, right = np.concatenate(scores), np.concatenate(labels), np.concatenate(correct)
    objects = np.bincount(np.concatenate(truth), minlength=len(ground_truth["categories"]))
    curves = [_curve("all", score, right, int(objects.sum()))]
    for index, category in enumerate(ground_truth["categories"]):
        mine = label == index
        curves.append(_curve(category["name"], score[mine], right[mine], int(objects[index])))
    return curves


def _curve(name: str, scores: np.ndarray, correct: np.ndarray, objects: int) -> F1Curve:
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(correct[order])
    # Equal scores pass a threshold together: only the last of each counts.
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, int)
    hits, reported = hits[last][::-1], (last + 1)[::-1]
    precision = hits / np.maximum(reported, 1)
    recall = hits / max(objects, 1)
    f1 = 2 * hits / np.maximum(reported + objects, 1)
    return F1Curve(name, scores[last][::-1], precision, recall, f1, objects)


def confusion_matrix(
    ground_truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], threshold: float
) -> np.ndarray:
    """(k+1,k+1) counts at IoU 0.5: row true class, column found class; the last of each is background.

    The last row holds detections of nothing, the last column missed objects.
    """
    background = len(ground_truth["categories"])
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    for image in images_of(ground_truth, predictions):
        for true, found in pairs(image, threshold):
            matrix[background if true is None else true, background if found is None else found] += 1
    return matrix

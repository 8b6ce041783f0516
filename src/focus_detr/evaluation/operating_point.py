"""What a model gets right once its score thresholds are chosen: precision and recall as it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from focus_detr.evaluation.matching import images_of, true_positives


@dataclass(frozen=True)
class OperatingPoint:
    """Counts at the thresholds chosen, at IoU 0.5, of a class, or of "all" pooled.

    Attributes:
        name: the class, or "all".
        objects: ground-truth objects.
        found: detections that reach their threshold, those inside crowd regions left out.
        right: those of them that are an object of their class.
    """

    name: str
    objects: int
    found: int
    right: int

    @property
    def precision(self) -> float | None:
        """The share of what was found that is right; None where nothing was found."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """The share of the objects that was found; None where there are none."""
        return self.right / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None where there was nothing, and nothing was found."""
        total = self.found + self.objects
        return 2 * self.right / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        counts = {"name": self.name, "objects": self.objects, "found": self.found, "right": self.right}
        return {**counts, "precision": self.precision, "recall": self.recall, "f1": self.f1}


def operating_points(
    ground_truth: Mapping[str, Any], reaching: Sequence[Mapping[str, Any]]
) -> list[OperatingPoint]:
    """Of all classes pooled, then of each in label order; ``reaching``: the predictions reported."""
    names = [category["name"] for category in ground_truth["categories"]]
    objects, found, right = np.zeros((3, len(names)), dtype=np.int64)
    for image in images_of(ground_truth, reaching):
        correct, counts = true_positives(image)
        labels = image.found.labels
        objects += np.bincount(image.objects.labels, minlength=len(names))
        found += np.bincount(labels[counts], minlength=len(names))
        right += np.bincount(labels[correct], minlength=len(names))
    rows = np.column_stack([objects, found, right])
    return [
        OperatingPoint(name, *row)
        for name, row in zip(["all", *names], [rows.sum(0).tolist(), *rows.tolist()], strict=True)
    ]

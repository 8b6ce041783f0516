"""What scores are reported of a model's answers: one to reach, or one for each class."""

# Shapes: k classes.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.structures.classes import resolve_classes

Threshold = float | Mapping[str | int, float]
"""A score that detections must reach, or one by class (name or label)."""


def checked_threshold(threshold: Any) -> float:
    """A score between 0 and 1; `FocusDetrError` for anything else."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise FocusDetrError(f"threshold={threshold!r}: must be a score between 0 and 1")
    return float(threshold)


def lowest_scores(threshold: Mapping[str | int, float], names: Sequence[str], otherwise: float) -> np.ndarray:
    """The score (k,) float32, as scores are, that detections of each class must reach.

    ``otherwise`` is that of classes which ``threshold`` does not name.

    Raises:
        FocusDetrError: a threshold is no score, or the model has no such class.
    """
    scores = np.full(len(names), otherwise, dtype=np.float32)
    for name, score in threshold.items():
        scores[resolve_classes(name, names, "threshold")] = checked_threshold(score)
    return scores

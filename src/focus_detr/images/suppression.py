"""Non-maximum suppression: of several boxes around one object, the best.

A DETR needs none once its queries have learned to share the objects out. Small models that saw few images
have not quite learned it, and gain much.
"""

from __future__ import annotations

import numpy as np


def without_duplicates(boxes_xyxy: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """(T,) bool: which of boxes (T,4), best first, overlap no better kept one of their class by more.

    Args:
        labels: (T,); boxes of different classes do not suppress each other.
        threshold: intersection over union beyond which the worse of two boxes goes.
    """
    boxes_xyxy, labels = np.asarray(boxes_xyxy), np.asarray(labels)
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=-1)
    low = np.maximum(boxes_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=-1)
    union = area[:, None] + area[None] - shared
    overlapping = (shared > threshold * union) & (labels[:, None] == labels[None])  # (T,T)
    kept = np.ones(len(labels), dtype=bool)
    # Whether a box stays depends on all better ones.
    for i in range(len(kept)):
        if kept[i]:
            kept[i + 1 :] &= ~overlapping[i, i + 1 :]
    return kept

"""Non-maximum suppression: of several boxes around one object, the best.

A DETR needs none once its queries have learned to share the objects out. Small models that saw few images
have not quite learned it, and gain much.
"""

from __future__ import annotations

import torch
from torch import Tensor


def without_duplicates(boxes_xyxy: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """(T,) bool: which of boxes (T,4), best first, overlap no better kept one of their class by more.

    Args:
        labels: (T,); boxes of different classes do not suppress each other.
        threshold: intersection over union beyond which the worse of two boxes goes.
    """
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1)
    low = torch.maximum(boxes_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
    high = torch.minimum(boxes_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = area[:, None] + area[None] - shared
    rivals = (shared > threshold * union) & (labels[:, None] == labels[None])  # (T,T)
    # Whether a box stays depends on all better ones: one pass over the rows, on the host.
    overlapping = rivals.cpu().numpy()
    kept = torch.ones(len(labels), dtype=torch.bool).numpy()
    for i in range(len(kept)):
        if kept[i]:
            kept[i + 1 :] &= ~overlapping[i, i + 1 :]
    return torch.from_numpy(kept).to(boxes_xyxy.device)

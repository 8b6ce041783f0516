"""Precedence: what queries are told of those before them, so that one answers where several could."""

# Shapes: B images, Q queries, C channels, k classes.

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.precision import FullMLP
from focus_detr.structures.boxes import cxcywh_to_xyxy

_HIDDEN = 8


class Precedence(nn.Module):
    """To each query, how much its box overlaps that of one before it with the same best class, at most.

    Suppression afterwards decides by the same number (Fast NMS: YOLACT, section 4.3); here it is an input,
    and what follows from it is learned.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.told = FullMLP(1, _HIDDEN, channels)

    def forward(self, class_logits: Tensor, boxes_cxcywh: Tensor) -> Tensor:
        """(B,Q,C) of queries, the best first, with class_logits (B,Q,k) and boxes (B,Q,4)."""
        with torch.no_grad():
            overlap = overlap_with_earlier(class_logits.argmax(-1), boxes_cxcywh)
        return self.told(overlap[..., None])

    def start(self) -> None:
        """Nothing is said at first."""
        last = self.told.layers[-1]
        assert isinstance(last, nn.Linear)
        init.zeros_(last.weight)
        init.zeros_(last.bias)


def overlap_with_earlier(labels: Tensor, boxes_cxcywh: Tensor) -> Tensor:
    """The greatest intersection over union with a box before it of the same label: (B,Q), of labels (B,Q)."""
    # Each side by itself: maps (B,Q,Q) are fast to broadcast, pairs (B,Q,Q,2) are not.
    left, top, right, bottom = cxcywh_to_xyxy(boxes_cxcywh).unbind(-1)  # (B,Q)
    shared_area = _shared(left, right) * _shared(top, bottom)  # (B,Q,Q)
    area = boxes_cxcywh[..., 2] * boxes_cxcywh[..., 3]  # (B,Q)
    union = area[:, :, None] + area[:, None] - shared_area
    count = labels.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool, device=labels.device).tril(-1)
    counts = earlier & (labels[:, :, None] == labels[:, None])
    return (shared_area / union.clamp(min=1e-9)).masked_fill(~counts, 0.0).amax(-1)


def _shared(low: Tensor, high: Tensor) -> Tensor:
    # Lengths (B,Q,Q) that intervals from low to high (B,Q) have in common.
    first, last = torch.maximum(low[:, :, None], low[:, None]), torch.minimum(high[:, :, None], high[:, None])
    return (last - first).clamp(min=0)

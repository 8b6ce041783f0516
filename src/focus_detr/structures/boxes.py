"""Boxes: forms and overlaps."""

# Shapes: (...,4) boxes with any axes before; those of two arguments broadcast.

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6  # in the denominators of the overlaps, as in the original


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to corners, (...,4)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners to centre and size, (...,4)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def intersection_over_union(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """IoU of corner boxes that broadcast, (...,4) with (...,4) -> (...); ``eps`` joins areas divided by."""
    shared = _shared_area(a, b)
    union = _area(a[..., 2:] - a[..., :2]) + _area(b[..., 2:] - b[..., :2]) - shared
    return shared / (union + eps)


def generalized_iou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """GIoU of corner boxes that broadcast, (...,4) with (...,4) -> (...); ``eps`` joins areas divided by."""
    shared = _shared_area(a, b)
    union = _area(a[..., 2:] - a[..., :2]) + _area(b[..., 2:] - b[..., :2]) - shared
    hull = _area((torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0))
    return shared / (union + eps) - (hull - union) / (hull + eps)


def _shared_area(a: Tensor, b: Tensor) -> Tensor:
    return _area((torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0))


def _area(sides: Tensor) -> Tensor:
    """(...,2) -> (...). The gradient of ``prod`` would have the host ask a GPU whether a side is zero."""
    return sides[..., 0] * sides[..., 1]


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of x in 0..1, clamped eps from either end."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))

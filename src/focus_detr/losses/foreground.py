"""The selector's loss: every token's foreground score against the boxes (paper section 3.2, spec 1.9)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from focus_detr.losses.focal import naive_focal_loss, sigmoid_focal_loss
from focus_detr.structures.boxes import cxcywh_to_xyxy
from focus_detr.structures.geometry import Geometry


def foreground_targets(
    geometry: Geometry, strides: Sequence[int], ranges: Sequence[float], labels: list[dict[str, Tensor]]
) -> Tensor:
    """Labels (B,N) bool: True where a token's centre lies inside a box whose size its level answers for.

    A token is positive where the largest distance from the token to the box's four sides lies within the
    level's range.

    Args:
        strides: input pixels a cell of each level.
        ranges: upper bounds in pixels of each level but the last.
    """
    device = geometry.sizes.device
    centres = []
    for level, (height, width) in enumerate(geometry.shapes):
        stride = strides[level]
        y = torch.arange(height, device=device) * stride + stride // 2
        x = torch.arange(width, device=device) * stride + stride // 2
        centres.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 2))
    centre = torch.cat(centres)
    targets = []
    for label in labels:
        size = label["size"].to(device).flip(0).repeat(2)
        boxes = (
            cxcywh_to_xyxy(label["boxes"].to(device)) * size
        )  # (T,4) boxes_xyxy, pixels of the resized image
        sides = distances_to_sides(centre.to(boxes.dtype), boxes)
        inside = (sides.amin(-1) > 0) & answers_for(geometry, ranges, sides.amax(-1))
        targets.append(inside.any(1))
    return torch.stack(targets)


def distances_to_sides(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """(N,T,4): how far points (N,2) lie inside boxes (T,4), from the left, top, right and bottom."""
    return torch.cat([points[:, None] - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - points[:, None]], -1)


def answers_for(geometry: Geometry, ranges: Sequence[float], largest: Tensor) -> Tensor:
    """(N,T): whether ``largest`` (N,T), a token's distance to a box's farthest side, is in its level's range.

    Args:
        ranges: upper bounds in pixels of each level but the last.
    """
    bounds = [-1.0, *ranges, 999999.0]
    lowest, highest = (
        torch.cat([largest.new_full((n, 1), b) for n, b in zip(geometry.lengths, side, strict=True)])
        for side in (bounds[:-1], bounds[1:])
    )
    return (largest > lowest) & (largest <= highest)


def foreground_loss(
    scores: Tensor,
    targets: Tensor,
    valid: Tensor | None,
    alpha: float,
    gamma: float,
    naive: bool = False,
) -> Tensor:
    """Focal loss per image over its tokens, divided by its positives, averaged over the images.

    Args:
        scores: (B,N) logits; targets: (B,N) bool; valid: (B,N) tokens that count, None for all.
        naive: the released form, which is not finite for saturated scores.
    """
    focal = naive_focal_loss if naive else sigmoid_focal_loss
    loss = focal(scores, targets.to(scores.dtype), alpha, gamma)
    if valid is not None:
        loss = loss.masked_fill(~valid, 0.0)
        targets = targets & valid
    return (loss.sum(1) / targets.sum(1).clamp(min=1)).mean()

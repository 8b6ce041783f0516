"""Salience: how central in its object a token is, whatever the object's scale (Salience-DETR; spec 4.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.losses.criterion import mean_of_processes
from focus_detr.losses.foreground import answers_for, distances_to_sides
from focus_detr.structures.boxes import cxcywh_to_xyxy
from focus_detr.structures.geometry import Geometry


def salience_targets(geometry: Geometry, ranges: Sequence[float], labels: list[dict[str, Tensor]]) -> Tensor:
    """Labels (B,N) in 0..1: 1 - sqrt(dx^2 + dy^2) / 2, from 1 at a box's centre to 0.29 in its corners.

    dx = (l - r) / (l + r) and dy = (t - b) / (t + b), of the token's distances to the box's sides. Of several
    boxes the best counts; a token whose level answers for none of those it lies in has 0.

    Args:
        ranges: upper bounds in pixels of the object sizes each level but the last answers for.
    """
    centres = geometry.centres()
    targets = []
    for image, label in enumerate(labels):
        size = label["size"].to(centres.device).flip(0)
        boxes = cxcywh_to_xyxy(label["boxes"].to(centres.device)) * size.repeat(2)
        sides = distances_to_sides(centres[image].to(boxes.dtype) * size, boxes)  # (N,T,4), pixels
        before, after = sides.split(2, -1)
        off_centre = (before - after) / (before + after)  # (N,T,2)
        inside = sides.amin(-1) > 0
        salience = 1 - off_centre.square().sum(-1).sqrt() / 2
        best = F.pad(torch.where(inside, salience, 0.0), (0, 1)).amax(1)
        answered = (inside & answers_for(geometry, ranges, sides.amax(-1))).any(1)
        targets.append(torch.where(answered, best, 0.0))
    return torch.stack(targets)


def salience_loss(
    scores: Tensor, targets: Tensor, valid: Tensor | None, alpha: float, gamma: float
) -> Tensor:
    """Focal loss with graded labels, over all tokens of a step, divided by its positive ones.

    (t alpha (1 - p)^gamma + (1 - t) (1 - alpha) p^gamma) times the cross-entropy of p and t.

    Args:
        scores: (B,N) logits; targets: (B,N) in 0..1; valid: (B,N) tokens that count, None for all.
    """
    targets = targets.to(scores.dtype)
    probability = scores.sigmoid()
    weight = targets * alpha * (1 - probability) ** gamma
    weight = weight + (1 - targets) * (1 - alpha) * probability**gamma
    loss = weight * F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    if valid is not None:
        loss, targets = loss.masked_fill(~valid, 0.0), targets.masked_fill(~valid, 0.0)
    return loss.sum() / mean_of_processes((targets > 0).sum().to(loss.dtype))

"""Salience: how central in its object a token is, whatever the object's scale (Salience-DETR; spec 4.5)."""

# Shapes: B images, N tokens of all levels, H W height and width of a level, T objects, t of them at once.

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.losses.foreground import Sides, answered, boxes_in_pixels, ranges_of, sizes_of
from focus_detr.losses.targets import Labels
from focus_detr.losses.whole_step import mean_of_processes
from focus_detr.structures.geometry import Geometry

# Of tokens and boxes together; a crowd's boxes are looked at some at a time.
_NUMBERS_AT_ONCE = 2**22


def salience_targets(
    geometry: Geometry,
    ranges: Sequence[float],
    labels: Labels,
    canvas: tuple[int, int] | None = None,
) -> Tensor:
    """Labels (B,N) in 0..1: 1 - sqrt(dx^2 + dy^2) / 2, from 1 at a box's centre to 0.29 in its corners.

    dx = (l - r) / (l + r) and dy = (t - b) / (t + b), of the token's distances to the box's sides. Of several
    boxes the best counts; a token whose level answers for none of those it lies in has 0.

    Args:
        ranges: upper bounds in pixels of the object sizes each level but the last answers for.
        canvas: height and width in pixels of the padded canvas that cells are equal parts of, as released;
            None for cells that are equal parts of their own image.
    """
    sizes = sizes_of(labels, geometry.sizes.device)
    boxes = boxes_in_pixels(labels, sizes)
    levels = []
    for shape, centres, bounds in zip(
        geometry.shapes, geometry.split(geometry.centres()), ranges_of(ranges), strict=True
    ):
        places = (centres.to(boxes.dtype) * sizes[:, None]).unflatten(1, shape)  # (B,H,W,2), pixels
        x, y = places[:, 0, :, 0], places[:, :, 0, 1]  # (B,W), (B,H)
        if canvas is not None:
            x, y = (
                ((torch.arange(cells, device=boxes.device) + 0.5) * (side / cells)).to(boxes.dtype)[None]
                for cells, side in zip(reversed(shape), reversed(canvas), strict=True)
            )
        columns, rows = Sides.of(x, boxes[..., 0::2]), Sides.of(y, boxes[..., 1::2])
        best = _salience(columns, rows)
        levels.append(torch.where(answered(columns, rows, *bounds), best, 0.0).flatten(1))
    return torch.cat(levels, 1)


def _salience(columns: Sides, rows: Sides) -> Tensor:
    # (B,H,W): of the boxes a token lies in, the salience in that where it is greatest.
    (batch, width, count), height = columns.before.shape, rows.before.shape[1]
    best = columns.before.new_zeros(batch, height, width)
    at_once = max(1, _NUMBERS_AT_ONCE // best.numel())
    for first in range(0, count, at_once):
        x, y = (
            Sides(*(side[..., first : first + at_once] for side in (each.before, each.after)))
            for each in (columns, rows)
        )
        off_x, off_y = ((each.before - each.after) / (each.before + each.after) for each in (x, y))
        distance = (off_x.square()[:, None] + off_y.square()[:, :, None]).sqrt()  # (B,H,W,t)
        inside = x.inside()[:, None] & y.inside()[:, :, None]
        best = torch.maximum(best, torch.where(inside, 1 - distance / 2, 0.0).amax(-1))
    return best


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

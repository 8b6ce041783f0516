"""The selector's loss: every token's foreground score against the boxes (paper section 3.2, spec 1.9)."""

# Shapes: B images, N tokens of all levels, H W height and width of a level, T objects.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focus_detr.losses.focal import naive_focal_loss, sigmoid_focal_loss
from focus_detr.losses.targets import Labels, Targets
from focus_detr.losses.whole_step import mean_of_images
from focus_detr.structures.boxes import cxcywh_to_xyxy
from focus_detr.structures.geometry import Geometry

_CENTRAL = 0.5  # of a box's sides


def foreground_targets(
    geometry: Geometry,
    strides: Sequence[int],
    ranges: Sequence[float],
    labels: Labels,
    part: float = 1.0,
) -> Tensor:
    """Labels (B,N) bool: True where a token's centre lies inside a box whose size its level answers for.

    A token is positive where the largest distance from the token to the box's four sides lies within the
    level's range.

    Args:
        strides: input pixels a cell of each level.
        ranges: upper bounds in pixels of each level but the last.
        part: of a box's sides, around its centre, that count as inside.
    """
    device = geometry.sizes.device
    boxes = boxes_in_pixels(labels, sizes_of(labels, device))
    levels = []
    for (height, width), stride, bounds in zip(geometry.shapes, strides, ranges_of(ranges), strict=True):
        x, y = (
            (torch.arange(length, device=device) * stride + stride // 2).to(boxes.dtype)[None]
            for length in (width, height)
        )
        levels.append(answered(Sides.of(x, boxes[..., 0::2]), Sides.of(y, boxes[..., 1::2]), *bounds, part))
    return torch.cat([level.flatten(1) for level in levels], 1)


def graded_targets(
    geometry: Geometry, strides: Sequence[int], ranges: Sequence[float], labels: Labels
) -> Tensor:
    """Labels (B,N): 0 for background, 1 in the central half of the sides of a box, 1/2 in the rest of it.

    What a box holds at its boundary is often background. Arguments as in `foreground_targets`.
    """
    inside, central = (
        foreground_targets(geometry, strides, ranges, labels, part) for part in (1.0, _CENTRAL)
    )
    return (inside.float() + central.float()) / 2


@dataclass
class Sides:
    """How far the columns (or rows) of a level lie from the left and right (top and bottom) of boxes.

    What a token is to a box is a matter of its column and of its row, each by itself: (B,W,T) and (B,H,T)
    numbers, where tokens and boxes together would be (B,H*W,T).

    Attributes:
        before, after: (B,W,T), negative outside.
    """

    before: Tensor
    after: Tensor

    @classmethod
    def of(cls, places: Tensor, edges: Tensor) -> Sides:
        """Places (B or 1,W) from edges (B,T,2), low and high."""
        low, high = edges[:, None].unbind(-1)  # (B,1,T)
        return cls(places[..., None] - low, high - places[..., None])

    def inside(self, part: float = 1.0) -> Tensor:
        """(B,W,T): whether in this part of the box, around its centre."""
        margin = (1 - part) / 2 * (self.before + self.after)
        return torch.minimum(self.before, self.after) > margin

    def farthest(self) -> Tensor:
        """(B,W,T)"""
        return torch.maximum(self.before, self.after)


def answered(columns: Sides, rows: Sides, lowest: float, highest: float, part: float = 1.0) -> Tensor:
    """(B,H,W) bool: tokens in this ``part`` of a box whose farthest side is over ``lowest`` away, at most
    ``highest``.

    The farthest is within ``highest`` where that of the column and that of the row are, and beyond ``lowest``
    where either is.
    """
    near_x, near_y = (each.inside(part) & (each.farthest() <= highest) for each in (columns, rows))
    far_x, far_y = near_x & (columns.farthest() > lowest), near_y & (rows.farthest() > lowest)
    # "For some box, both": numbers of boxes, as products of matrices of zeros and ones.
    return (_both(far_y, near_x) + _both(near_y, far_x)) > 0


def _both(rows: Tensor, columns: Tensor) -> Tensor:
    # For how many boxes rows (B,H,T) and columns (B,W,T) both hold: (B,H,W).
    return rows.float() @ columns.float().transpose(1, 2)


def sizes_of(labels: Labels, device: torch.device) -> Tensor:
    """(B,2): width and height of the resized images."""
    return torch.stack([label["size"] for label in labels]).to(device).flip(-1)


def boxes_in_pixels(labels: Labels, sizes: Tensor) -> Tensor:
    """(B,T,4) boxes_xyxy in images of ``sizes`` (B,2); those beyond an image's own have no extent."""
    return cxcywh_to_xyxy(Targets.of(labels).boxes.to(sizes.device)) * sizes.repeat(1, 2)[:, None]


def ranges_of(bounds: Sequence[float]) -> list[tuple[float, float]]:
    """The sizes each level answers for, in pixels: more than the first, at most the second.

    Args:
        bounds: upper ones of each level but the last.
    """
    return list(zip([-1.0, *bounds], [*bounds, 999999.0], strict=True))


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
        scores: (B,N) logits; targets: (B,N) bool, or grades in 0..1; valid: (B,N) tokens that count, None
            for all.
        naive: the released form, which is not finite for saturated scores.
    """
    focal = naive_focal_loss if naive else sigmoid_focal_loss
    loss = focal(scores, targets.to(scores.dtype), alpha, gamma)
    if valid is not None:
        loss = loss.masked_fill(~valid, 0.0)
        targets = targets * valid
    return mean_of_images(loss.sum(1) / (targets > 0).sum(1).clamp(min=1))

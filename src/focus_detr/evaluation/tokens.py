"""Foreground recall: does the token selection keep what has to be found?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from focus_detr.structures.plan import TokenPlan

SIZES = ("all", "small", "medium", "large")
_SMALL, _LARGE = 32.0**2, 96.0**2


class ForegroundRecall:
    """Share of ground-truth objects that at least one kept token lies in, per encoder layer and object size.

    An object counts as kept in layer j when the centre of at least one token that layer j works on, of any
    level, lies inside its box or on its edge. The token in row i, column c of a level, h rows and w columns
    of which are image (not padding), has its centre at ((c + 0.5) / w, (i + 0.5) / h) in fractions of the
    image; as resizing moves no fractions, this is the same test as in pixels of the resized image. Sizes are
    COCO's: the box's area in pixels of the original image is under 32^2 (small), under 96^2 (medium), or not.
    A box that holds no token's centre at all, however many were kept, counts as missed, and is also reported
    as unreachable.

    What no layer keeps, the encoder never refines: the first layer's recall bounds the rest.
    """

    def __init__(self) -> None:
        self._kept: np.ndarray | None = None  # (layers, sizes)
        self._total = np.zeros(len(SIZES), dtype=np.int64)
        self._unreachable = np.zeros(len(SIZES), dtype=np.int64)

    @torch.no_grad()
    def update(self, outputs: Any, labels: Sequence[dict[str, Tensor]]) -> None:
        """Add a batch.

        Args:
            outputs: with `plan` (a `TokenPlan`; None, as of a dense encoder, adds nothing), `spatial_shapes`
                and `level_sizes` (B,L,2) as (height, width), or None where nothing is padded.
            labels: one dict an image, with `boxes` (T,4) boxes_cxcywh and `orig_size` (2,) height and width.
        """
        plan = outputs.plan
        if plan is None:
            return
        batch = plan.indices.shape[0]
        sizes = outputs.level_sizes
        if sizes is None:
            sizes = torch.tensor(list(outputs.spatial_shapes))[None].expand(batch, -1, -1)
        if self._kept is None:
            self._kept = np.zeros((len(plan.counts), len(SIZES)), dtype=np.int64)
        for image, label in enumerate(labels):
            boxes = label["boxes"].detach().float().cpu()
            if not len(boxes):
                continue
            inside = tokens_inside(list(outputs.spatial_shapes), sizes[image].cpu(), boxes)
            groups = size_groups(boxes, label["orig_size"].cpu())  # (sizes,T)
            self._total += groups.sum(1)
            self._unreachable += (groups & ~inside.any(0).numpy()).sum(1)
            for layer, hit in enumerate(kept_objects(plan, inside, image)):
                self._kept[layer] += (groups & hit).sum(1)

    def add(self, other: ForegroundRecall) -> None:
        """Count in what another has counted, of other images."""
        if other._kept is not None:
            self._kept = other._kept if self._kept is None else self._kept + other._kept
        self._total = self._total + other._total
        self._unreachable = self._unreachable + other._unreachable

    def compute(self) -> dict[str, Any]:
        """Recalls 0..1, None where there is no object of the size; empty when no plan was seen.

        `{"recall": {size: [one number a layer]}, "objects": {size: count}, "unreachable": {size: count}}`.
        """
        if self._kept is None:
            return {}
        recall = {
            size: [int(kept) / int(total) if total else None for kept in self._kept[:, column]]
            for column, (size, total) in enumerate(zip(SIZES, self._total, strict=True))
        }
        counts = zip(SIZES, self._total.tolist(), self._unreachable.tolist(), strict=True)
        objects, unreachable = {}, {}
        for size, total, lost in counts:
            objects[size], unreachable[size] = total, lost
        return {"recall": recall, "objects": objects, "unreachable": unreachable}

    def summary(self) -> dict[str, float]:
        """`foreground_recall` and `foreground_recall_small` ... of the first layer, `foreground_recall_last`
        of the last, where they are defined."""
        recalls = self.compute().get("recall", {})
        names = {size: "foreground_recall" + ("" if size == "all" else f"_{size}") for size in SIZES}
        found = {names[size]: values[0] for size, values in recalls.items()}
        found["foreground_recall_last"] = recalls["all"][-1] if recalls else None
        return {name: value for name, value in found.items() if value is not None}


def token_centres(shapes: Sequence[tuple[int, int]], sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (N,2) as (x, y) fractions of the image, and which tokens are image rather than padding (N,).

    Args:
        shapes: (H, W) of each level's canvas.
        sizes: (L,2) height and width of the image's part of each.
    """
    centres, real = [], []
    for (height, width), (own_height, own_width) in zip(shapes, sizes.tolist(), strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        place = torch.stack([(x + 0.5) / own_width, (y + 0.5) / own_height], -1)
        centres.append(place.flatten(0, 1))
        real.append(((y < own_height) & (x < own_width)).flatten())
    return torch.cat(centres), torch.cat(real)


def tokens_inside(shapes: Sequence[tuple[int, int]], sizes: Tensor, boxes_cxcywh: Tensor) -> Tensor:
    """Which tokens of an image have their centre in which of its objects (N,T); arguments as `token_centres`,
    and the objects' boxes (T,4)."""
    centres, real = token_centres(shapes, sizes)
    return inside_boxes(centres, boxes_cxcywh) & real[:, None]


def kept_objects(plan: TokenPlan, inside: Tensor, image: int) -> np.ndarray:
    """Of which objects each layer keeps a token, (layers,T); ``inside`` as `tokens_inside` gives it."""
    layers = [plan.kept(layer) for layer in range(len(plan.counts))]
    rows = [indices[image][valid[image]].cpu() for indices, valid in layers]
    return np.stack([inside[kept].any(0).numpy() for kept in rows])


def inside_boxes(points: Tensor, boxes_cxcywh: Tensor) -> Tensor:
    """(N,T) whether each point (N,2) lies in each box (T,4), or on its edge."""
    distance = (points[:, None] - boxes_cxcywh[None, :, :2]).abs()
    return (distance <= boxes_cxcywh[None, :, 2:] / 2).all(-1)


def size_groups(boxes_cxcywh: Tensor, orig_size: Tensor) -> np.ndarray:
    """(sizes,T): whether an object is of each of `SIZES`; ``orig_size`` is the image's height and width."""
    area = (boxes_cxcywh[:, 2] * boxes_cxcywh[:, 3] * orig_size.float().prod()).numpy()
    small, large = area < _SMALL, area >= _LARGE
    return np.stack([np.ones_like(small), small, ~small & ~large, large])

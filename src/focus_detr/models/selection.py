"""Selection: foreground scores and a budget give a plan of which tokens each encoder layer works on."""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on.

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from focus_detr.structures.budget import Budget, Share, exact, scaled, share, shares_of
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import descending


def plan_tokens(
    scores: Tensor,
    geometry: Geometry,
    keep_ratio: Share,
    cascade: Sequence[Share],
    *,
    batch_counts: bool = False,
    batch_fill: bool = False,
) -> TokenPlan:
    """Keep the best floor(keep_ratio * N) + 1 tokens of each image, and ever fewer of them layer by layer.

    Args:
        scores: (B,N) foreground logits.
        batch_counts, batch_fill: as released; see `Quirks`.
    """
    num_tokens = geometry.num_tokens
    # Counts follow from the canvas, as Python numbers: nothing waits for a device, and graphs stay static.
    largest = min(share(keep_ratio, num_tokens) + 1, num_tokens)
    ranked = scores.detach()
    valid_counts = None
    if geometry.valid is not None:
        # Every image has counts[j] rows, and of these as many as it would have alone; the others are worked
        # on, so that shapes stay static, and what becomes of them is thrown away.
        #   image 0   [====================]   as large as the canvas
        #   image 1   [===========]........    valid_counts[1, j]
        fill = ranked.min() if batch_fill else torch.finfo(ranked.dtype).min
        ranked = torch.where(geometry.valid, ranked, fill)
        valid = geometry.valid_counts()
        foreground = torch.minimum(share(keep_ratio, valid) + 1, valid)  # (B,), of each image
        if batch_counts:
            largest = int(foreground.max())
            valid_counts = foreground[:, None].expand(-1, len(cascade))
        else:
            valid_counts = torch.stack([share(ratio, foreground) for ratio in cascade], 1).clamp(min=1)
    counts = shares_of(largest, cascade)
    # The first layer may be told to work on less than the whole foreground, which is then never visited.
    return TokenPlan(scores, descending(ranked, counts[0]), counts, valid_counts)


def plan_by_quotas(
    scores: Tensor,
    geometry: Geometry,
    quotas: Sequence[Share],
    cascade: Sequence[Share],
    *,
    batch_counts: bool = False,
    batch_fill: bool = False,
) -> TokenPlan:
    """Keep the best share of each level, and of these in one sort ever fewer layer by layer (spec 4.5).

    A level keeps at least one token, also where floor(quota * H * W) is none.

    Args:
        scores: (B,N) foreground logits.
        quotas: share of each level's tokens, fine to coarse.
        batch_counts, batch_fill: as released; see `Quirks`.
    """
    best, places, largest, start = [], [], 0, 0
    kept = None if geometry.valid is None else torch.zeros_like(geometry.sizes[:, 0, 0])
    valid = [None] * len(quotas) if geometry.valid is None else geometry.split(geometry.valid)
    for level, ranked in enumerate(geometry.split(scores.detach())):
        count = max(1, share(quotas[level], geometry.lengths[level]))
        inside = valid[level]
        if inside is not None and kept is not None:
            fill = ranked.min() if batch_fill else torch.finfo(ranked.dtype).min
            ranked = torch.where(inside, ranked, fill)
            of_image = share(quotas[level], geometry.sizes[:, level].prod(-1)).clamp(min=1)  # (B,)
            count = int(of_image.max()) if batch_counts else count
            kept = kept + of_image
        chosen = descending(ranked, count)
        ranked = ranked.gather(1, chosen)
        if inside is not None and not batch_counts:
            # What the canvas has room for beyond an image's own quota comes after all quotas.
            beyond = torch.arange(count, device=ranked.device) >= of_image[:, None]
            ranked = ranked.masked_fill(beyond, torch.finfo(ranked.dtype).min)
        best.append(ranked)
        places.append(chosen + start)
        largest, start = largest + count, start + geometry.lengths[level]
    counts = shares_of(largest, cascade)
    valid_counts = None
    if kept is not None:
        of_layers = [kept if batch_counts else share(ratio, kept) for ratio in cascade]
        valid_counts = torch.stack(of_layers, 1).clamp(min=1)
    order = descending(torch.cat(best, 1), counts[0])
    return TokenPlan(scores, torch.cat(places, 1).gather(1, order), counts, valid_counts)


def quotas_at(
    budget: Budget, quotas: Sequence[Share], cascade: Sequence[float]
) -> tuple[list[Fraction], list[Fraction]]:
    """The quotas of levels, fine to coarse, and cascade with this mean, from a policy's own."""
    # A level has four times the tokens of the next coarser one, whatever the image, but for rounding.
    tokens = [4**level for level in reversed(range(len(quotas)))]
    mean = sum((exact(q) * n for q, n in zip(quotas, tokens, strict=True)), Fraction(0)) / sum(tokens)
    first, shares = budget.cascade(mean, cascade)
    return scaled(quotas, first, tokens), shares

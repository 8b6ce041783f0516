"""Proposals apart from each other: of neighbouring tokens the best becomes a query (Salience-DETR)."""

# Shapes: B images, N tokens of all levels, Q queries.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from focus_detr.structures.geometry import Geometry
from focus_detr.structures.rows import descending

# Always as many, so that no device is waited for and graphs stay static. Scores need 2 (noise) to 20 (hills)
# of them; only a row of more than 128 neighbours, each worse than the last, is not settled.
_ROUNDS = 64


def best_apart(
    scores: Tensor, geometry: Geometry, count: int, padded: bool, candidates: int
) -> tuple[Tensor, Tensor]:
    """Indices (B,Q) of the best tokens of which no two are direct neighbours, and which of them count (B,Q).

    A token goes where a better one that stays lies left, right, above or below of it on its level. As
    released, that is non-maximum suppression of boxes of two cells a side: neighbours overlap by 1/3, more
    than its threshold of 0.3, diagonal ones by 1/7.

    Args:
        scores: (B,N).
        count: how many queries; fewer where there are fewer tokens.
        padded: padding may be chosen, and suppresses.
        candidates: of an image's tokens only so many, the best ones, take part.
    """
    total = geometry.num_tokens
    scores, taking_part = scores.detach(), None
    if geometry.valid is not None and not padded:
        taking_part = geometry.valid
        scores = scores.masked_fill(~taking_part, torch.finfo(scores.dtype).min)
    order = descending(scores, total)
    place = torch.arange(total, device=scores.device)
    rank = torch.empty_like(order).scatter(1, order, place.expand_as(order))  # (B,N)
    out = rank >= candidates
    if taking_part is not None:
        out = out | ~taking_part
    stays = without_neighbours(rank, out, neighbours(geometry.shapes, scores.device))
    chosen = descending(torch.where(stays, total - rank, 0), min(count, total))
    return chosen, stays.gather(1, chosen)


def without_neighbours(rank: Tensor, out: Tensor, beside: Tensor) -> Tensor:
    """(B,N): which tokens stay: the best first, and its neighbours go; so does what is not settled.

    Args:
        rank: (B,N), 0 for the best.
        out: (B,N), those that go anyhow.
        beside: (N,4) neighbours; N where there is none.
    """
    # Round by round: a token stays when all better neighbours have gone, and goes when one of them stays.
    ahead = _with_none(rank, rank.shape[1])[:, beside] < rank[..., None]  # (B,N,4), better neighbours
    stays = torch.zeros_like(out)
    for _ in range(_ROUNDS):
        stays = ~out & (~ahead | _with_none(out, True)[:, beside]).all(-1)
        out = out | (ahead & _with_none(stays, False)[:, beside]).any(-1)
    return stays


def _with_none(values: Tensor, none: int | bool) -> Tensor:
    # Values (B,N) and one more for a neighbour that is not there: (B,N+1).
    return torch.cat([values, torch.full_like(values[:, :1], none)], 1)


def neighbours(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(N,4): the tokens left, right, above and below of each on its level; N where there is none."""
    total = sum(height * width for height, width in shapes)
    tables, start = [], 0
    for height, width in shapes:
        cell = torch.arange(height * width, device=device)
        column, row = cell % width, cell // width
        steps = ((column > 0, -1), (column < width - 1, 1), (row > 0, -width), (row < height - 1, width))
        tables.append(torch.stack([torch.where(has, start + cell + step, total) for has, step in steps], -1))
        start += height * width
    return torch.cat(tables)

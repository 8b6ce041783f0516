"""Thin memories: decoders that look at the foreground, and at one row for all that is not."""

# Shapes: B images, N tokens of all levels, K kept, C channels, h heads.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from focus_detr.models.options import check_ranges
from focus_detr.models.selection import plan_tokens
from focus_detr.structures.budget import SMALLEST, Share
from focus_detr.structures.memory import Memory, Projection
from focus_detr.structures.rows import gather_rows


@dataclass(frozen=True)
class ThinningOptions:
    """How much of the memory a decoder sees token by token."""

    value_share: float = 1.0
    """Share of the tokens, those with the best foreground scores, whose values decoder layers project; all
    others have that of their mean."""

    def thin(self, memory: Memory) -> Memory:
        """What a decoder looks at."""
        return memory if self.value_share == 1 else ThinMemory.of(memory, self.value_share)

    def check_thinning(self) -> None:
        """Raise FocusDetrError where the share is none; whether tokens have scores, their policy says."""
        check_ranges(self, "host_options", value_share=(SMALLEST, 1))


def likely_foreground(memory: Memory, share: Share) -> tuple[Tensor, Tensor]:
    """Tokens (B,K) with the best foreground scores, best first, and which are their image's own share."""
    assert memory.plan is not None and memory.plan.scores is not None
    return plan_tokens(memory.plan.scores, memory.geometry, share, (1.0,)).kept(0)


@dataclass(kw_only=True)
class ThinMemory(Memory):
    """A memory whose best tokens have values of their own; those of the rest are their mean's.

    Every decoder layer projects all tokens to values, and queries look at few. A projection is linear,
    so the mean's value is the mean of values: what a query finds in the background is an average place.

    Attributes:
        kept: (B,K+1,C), the best tokens and the mean of the others.
        places: (B,N), the row of them that each token of the grid has.
    """

    kept: Tensor
    places: Tensor

    @classmethod
    def of(cls, memory: Memory, share: Share) -> ThinMemory:
        """Keep this share of each image's tokens."""
        tokens, geometry = memory.tokens, memory.geometry
        indices, own = likely_foreground(memory, share)  # (B,K) both
        best = gather_rows(tokens, indices)
        count = best.shape[1]
        # What the canvas has room for beyond a smaller image's own share is background, too.
        rank = torch.arange(count, device=tokens.device).expand_as(indices)
        places = torch.full(tokens.shape[:2], count, device=tokens.device)
        places = places.scatter(1, indices, torch.where(own, rank, count))
        background = places == count  # (B,N)
        if geometry.valid is not None:
            background = background & geometry.valid
        weights = background.to(tokens.dtype)[:, None]  # (B,1,N)
        mean = weights @ tokens / weights.sum(-1, keepdim=True).clamp(min=1)  # (B,1,C)
        return cls(**vars(memory), kept=torch.cat([best, mean], 1), places=places)

    def project(self, attention: Projection) -> Tensor:
        values = attention.project(self.kept, None)  # (B,K+1,h,C/h)
        spread = gather_rows(values.flatten(2), self.places).unflatten(-1, values.shape[2:])
        if self.geometry.valid is not None:
            spread = spread.masked_fill(~self.geometry.valid[..., None, None], 0.0)
        return spread

"""The token plan: which tokens each encoder layer works on."""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class TokenPlan:
    """Which tokens each encoder layer works on (spec 1.5).

    The sets are nested: layer j works on the first ``counts[j]`` of one descending sort; unless layers choose
    anew, which they do as they are reached.

    Attributes:
        scores: (B,N) foreground logits, unmasked; None where tokens are chosen by their level alone.
        indices: (B,K_0) kept tokens, best first.
        counts: rows each layer works on, static.
        valid_counts: (B, layers) rows of each image that are its own; None when all are, for every image.
        budgets: (B,) the one chosen for each image, where they were chosen image by image (see `AutoBudget`).
        ranked: (B,N) what tokens were ranked by, where that was something else than ``scores``.
        chosen: (B,K_j) the tokens of each layer, best first, where it chose anew; once the encoder has run.
        expected: (B,) how much an image loses by it, as a chooser expects; in training.
    """

    scores: Tensor | None
    indices: Tensor
    counts: tuple[int, ...]
    valid_counts: Tensor | None
    budgets: tuple[float, ...] | None = None
    ranked: Tensor | None = None
    chosen: tuple[Tensor, ...] | None = None
    expected: Tensor | None = None

    @classmethod
    def of_each(cls, plans: Sequence[TokenPlan], which: Sequence[int]) -> TokenPlan:
        """Of plans for the same images, that which each image has ``which`` of them.

        Counts are those of the largest plan used, so that shapes stay static; an image whose plan is smaller
        has its own rows first, and the rest is worked on and thrown away, as beyond a smaller image's rows.
        """
        largest = plans[max(which)]
        if min(which) == max(which):
            return largest
        device, batch = largest.indices.device, len(which)
        rows = torch.arange(largest.counts[0], device=device).expand(batch, -1)
        # Where a token stands in its image's own plan; those of the largest plan alone come after them.
        tokens = int(largest.indices.max()) + 1
        place = torch.full((batch, tokens), 2 * largest.counts[0], device=device)
        place.scatter_(1, largest.indices, rows + largest.counts[0])
        valid_counts = []
        for image, number in enumerate(which):
            own = plans[number]
            place[image, own.indices[image]] = rows[image, : own.counts[0]]
            counts = torch.tensor(own.counts, device=device)
            valid_counts.append(counts if own.valid_counts is None else own.valid_counts[image])
        order = place.gather(1, largest.indices).argsort(1)
        indices = largest.indices.gather(1, order)
        return cls(largest.scores, indices, largest.counts, torch.stack(valid_counts), ranked=largest.ranked)

    def rows(self, layer: int) -> Tensor | None:
        """(B,K_j) bool, the rows of a layer that count; None when all do."""
        if self.valid_counts is None:
            return None
        rank = torch.arange(self.counts[layer], device=self.indices.device)
        return rank < self.valid_counts[:, layer, None]

    def tokens(self, layer: int) -> Tensor:
        """(B,K_j): those that a layer works on, best first."""
        return self.indices[:, : self.counts[layer]] if self.chosen is None else self.chosen[layer]

    def kept(self, layer: int) -> tuple[Tensor, Tensor]:
        """The tokens (B,K_j) that a layer works on, and which of them count (B,K_j)."""
        indices, rows = self.tokens(layer), self.rows(layer)
        return indices, torch.ones_like(indices, dtype=torch.bool) if rows is None else rows

    def order_of(self, valid: Tensor | None) -> Tensor:
        """(B,N): what tokens are ranked by, padding last; `valid` (B,N) are those that are image."""
        by = self.scores if self.ranked is None else self.ranked
        assert by is not None
        by = by.detach()
        return by if valid is None else by.masked_fill(~valid, torch.finfo(by.dtype).min)

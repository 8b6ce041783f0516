"""The token plan: which tokens each encoder layer works on."""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class TokenPlan:
    """Which tokens each encoder layer works on (spec 1.5).

    The sets are nested: layer j works on the first ``counts[j]`` of one descending sort.

    Attributes:
        scores: (B,N) foreground logits, unmasked; None where tokens are chosen by their level alone.
        indices: (B,K_0) kept tokens, best first.
        counts: rows each layer works on, static.
        valid_counts: (B, layers) rows of each image that are its own; None when all are, for every image.
    """

    scores: Tensor | None
    indices: Tensor
    counts: tuple[int, ...]
    valid_counts: Tensor | None

    def rows(self, layer: int) -> Tensor | None:
        """(B,K_j) bool, the rows of a layer that count; None when all do."""
        if self.valid_counts is None:
            return None
        rank = torch.arange(self.counts[layer], device=self.indices.device)
        return rank < self.valid_counts[:, layer, None]

    def kept(self, layer: int) -> tuple[Tensor, Tensor]:
        """The tokens (B,K_j) that a layer works on, and which of them count (B,K_j)."""
        indices = self.indices[:, : self.counts[layer]]
        rows = self.rows(layer)
        return indices, torch.ones_like(indices, dtype=torch.bool) if rows is None else rows

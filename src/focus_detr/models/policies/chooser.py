"""A learned choice of budgets: what a picture loses at one, from the distribution of its scores."""

# Shapes: B images, N tokens of all levels, S steps.

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.precision import FullPrecision, in_full_precision

STEPS = tuple(-6.0 + 0.5 * step for step in range(17))
"""Foreground logits that shares of tokens exceed: probabilities of 0.002 to 0.88."""
_HIDDEN = 32


class BudgetChooser(FullPrecision):
    """How much higher a picture's loss is at a budget than with all tokens.

    Any-budget training computes both losses anyway, and teaches it their difference. It sees which shares of
    an image's tokens exceed each of `STEPS`, as logarithms: an empty sky and a crowd differ by powers of ten.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(len(STEPS) + 1, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))

    def start(self) -> None:
        """No opinion yet: the same small loss for all."""
        last = cast(nn.Linear, self.layers[-1])
        init.zeros_(last.weight)
        init.constant_(last.bias, -1.0)

    @in_full_precision
    def forward(self, scores: Tensor, valid: Tensor | None, budget: float) -> Tensor:
        """Foreground logits (B,N), of which ``valid`` (B,N) are image, None for all, to losses (B,) >= 0."""
        exceeding = torch.stack([scores > step for step in STEPS], -1)  # (B,N,S)
        if valid is None:
            valid = torch.ones_like(scores, dtype=torch.bool)
        shares = (exceeding & valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
        dtype = cast(nn.Linear, self.layers[0]).weight.dtype
        histogram = torch.log10(shares.to(dtype) + 1e-4)  # (B,S), -4 to 0
        dial = histogram.new_full((len(histogram), 1), math.log(budget))
        return F.softplus(self.layers(torch.cat([histogram, dial], 1)).squeeze(1))

"""Reactivation: what a layer makes of tokens says where they stand when the next one chooses."""

# Shapes: B images, K tokens that a layer worked on, C channels.

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.precision import FullPrecision, in_full_precision


class Rescorer(FullPrecision):
    """What a layer has found out about the tokens that it worked on: a correction of their foreground logits.

    The others stay as the selector saw them, and keep its score: that is work for K tokens, not for all. It
    begins as none, so that a trained model chooses as before until it is trained on.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(channels, channels // 4), nn.GELU(), nn.Linear(channels // 4, 1))

    def start(self) -> None:
        """No correction."""
        last = cast(nn.Linear, self.score[-1])
        init.zeros_(last.weight)
        init.zeros_(last.bias)

    @in_full_precision
    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B,K,C) -> (B,K), to be added to their logits."""
        return self.score(tokens).squeeze(-1)

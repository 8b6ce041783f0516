"""The encoder layer that token policies stack: dual attention (paper section 3.3) or deformable alone."""

# Shapes: B images, N tokens of all levels, K kept, F fine-grained, C channels, h heads, L levels.

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from focus_detr.models.attention import DeformableAttention, FeedForward, SelfAttention
from focus_detr.models.checkpointing import CheckpointedLayer
from focus_detr.models.nested import NestedFeedForward
from focus_detr.structures.rows import descending, gather_rows, scatter_rows, smaller

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


class EncoderLayer(CheckpointedLayer):
    """Self-attention among fine-grained tokens if ``dual``; deformable attention and feed-forward for all.

    Args:
        units: of the hidden layer, for tokens that are not fine-grained; None for all units.
    """

    called_besides_forward: ClassVar = ("attend_fine_tokens",)  # see `training.sharding.shard`

    def __init__(
        self,
        channels: int,
        heads: int,
        levels: int,
        points: int,
        hidden: int,
        dropout: float,
        dual: bool,
        units: int | None = None,
    ) -> None:
        super().__init__()
        if dual:
            self.self_attention = SelfAttention(channels, heads, dropout)
            self.self_attention_norm = nn.LayerNorm(channels)
        self.deformable_attention = DeformableAttention(channels, heads, levels, points)
        self.deformable_attention_norm = nn.LayerNorm(channels)
        self.ffn: nn.Module = (
            FeedForward(channels, hidden, dropout)
            if units is None
            else NestedFeedForward(channels, hidden, dropout, units)
        )
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def attend_fine_tokens(
        self,
        tokens: Tensor,
        positions: Tensor,
        priority: Tensor,
        count: int,
        own: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Self-attention among the ``count`` tokens (B,K,C) of highest priority (B,K); the rest pass.

        A priority of -inf marks rows that are not an image's own: they are neither attended to nor changed.
        Of ``own`` (B,) each image has so many of them, where that is fewer.

        Returns (B,K,C), and (B,F) which rows took part, -1 in place of those that are not an image's own.
        """
        picked = descending(priority, smaller(count, priority.shape[1]))  # (B,F)
        allowed = priority.gather(1, picked) > float("-inf")  # (B,F)
        if own is not None:
            allowed = allowed & (torch.arange(picked.shape[1], device=picked.device) < own[:, None])
        fine, fine_positions = gather_rows(tokens, picked), gather_rows(positions, picked)
        # Full attention is affordable among so few; deformable attention alone never compares two tokens.
        attended = self.self_attention(fine, fine_positions, allowed[:, None, None])  # (B,F,C)
        attended = self.self_attention_norm(fine + self.dropout(attended))
        mixed = scatter_rows(tokens, picked, torch.where(allowed[..., None], attended, fine))
        return mixed, picked.masked_fill(~allowed, -1)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        references: Tensor,
        value: Tensor,
        shapes: list[tuple[int, int]],
        fine: Tensor | None = None,
    ) -> Tensor:
        """tokens, positions (B,K,C), references (B,K,L,2), value (B,N,h,C/h) -> (B,K,C).

        Args:
            fine: (B,F) rows that are fine-grained, -1 for none, where that makes a difference.
        """
        # Post-norm throughout, as in the original: each half adds to its input and normalises the sum.
        sampled = self.deformable_attention(tokens + positions, references, value, shapes)  # (B,K,C)
        tokens = self.deformable_attention_norm(tokens + self.dropout(sampled))
        if fine is None:
            return self.feed_forward(tokens, shapes)
        return self.ffn_norm(tokens + self.dropout(self.ffn(tokens, fine)))

    def feed_forward(self, tokens: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """The layer's second half, tokens (B,K,C) -> (B,K,C)."""
        return self.ffn_norm(tokens + self.dropout(self.ffn(tokens)))


def encoder_layers(
    config: FocusDetrConfig, dual: bool = False, units: int | None = None
) -> list[EncoderLayer]:
    """As many layers as ``config`` says; ``dual`` and ``units`` as `EncoderLayer` has them."""
    c = config
    return [
        EncoderLayer(
            c.d_model,
            c.attention_heads,
            c.num_levels,
            c.num_points,
            c.encoder_ffn_dim,
            c.dropout,
            dual,
            units,
        )
        for _ in range(c.encoder_layers)
    ]

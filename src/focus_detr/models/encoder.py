"""Encoder: executes a token plan with dual attention (paper section 3.3), or works on every token.

The kept tokens of all layers are prefixes of one sort. They are gathered once into a compact buffer; layer j
works on its first K_j rows, and rows that a layer leaves behind are finished. Shapes are static, and no image
is treated on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from focus_detr.models.attention import DeformableAttention, FeedForward, SelfAttention
from focus_detr.models.geometry import Geometry
from focus_detr.models.scoring import category_priority
from focus_detr.models.selection import TokenPlan, descending


class EncoderLayer(GradientCheckpointingLayer):
    """Self-attention among fine-grained tokens if ``dual``; deformable attention and feed-forward for all."""

    def __init__(
        self, channels: int, heads: int, levels: int, points: int, hidden: int, dropout: float, dual: bool
    ) -> None:
        super().__init__()
        if dual:
            self.self_attention = SelfAttention(channels, heads, dropout)
            self.self_attention_norm = nn.LayerNorm(channels)
        self.deformable_attention = DeformableAttention(channels, heads, levels, points)
        self.deformable_attention_norm = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, hidden, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def attend_fine_tokens(self, tokens: Tensor, positions: Tensor, priority: Tensor, count: int) -> Tensor:
        """Self-attention among the ``count`` tokens (B,K,C) of highest priority (B,K); the rest pass.

        A priority of -inf marks rows that are not an image's own: they are neither attended to nor changed.
        """
        picked = descending(priority, min(count, priority.shape[1]))  # (B,F)
        allowed = priority.gather(1, picked) > float("-inf")
        fine, fine_positions = take(tokens, picked), take(positions, picked)
        attended = self.self_attention(fine, fine_positions, allowed[:, None, None])
        attended = self.self_attention_norm(fine + self.dropout(attended))
        return put(tokens, picked, torch.where(allowed[..., None], attended, fine))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        references: Tensor,
        value: Tensor,
        shapes: list[tuple[int, int]],
    ) -> Tensor:
        """tokens, positions (B,K,C), references (B,K,L,2), value (B,N,h,C/h) -> (B,K,C)."""
        sampled = self.deformable_attention(tokens + positions, references, value, shapes)
        tokens = self.deformable_attention_norm(tokens + self.dropout(sampled))
        return self.ffn_norm(tokens + self.dropout(self.ffn(tokens)))


class Encoder(nn.Module):
    """A stack of layers over all tokens, or over those of a plan.

    Args:
        class_head: tokens -> class logits; ranks fine-grained tokens. Shared with query selection (spec 1.6).
    """

    def __init__(self, layers: list[EncoderLayer], num_fine_tokens: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_fine_tokens = num_fine_tokens

    def stack(self) -> list[EncoderLayer]:
        """The layers, first to last."""
        return cast(list[EncoderLayer], list(self.layers))

    def forward_dense(
        self, tokens: Tensor, positions: Tensor, references: Tensor, geometry: Geometry
    ) -> Tensor:
        """Every token in every layer (DINO): tokens, positions (B,N,C), references (B,N,L,2) -> (B,N,C)."""
        for layer in self.stack():
            value = layer.deformable_attention.project(tokens, geometry.valid)
            tokens = layer(tokens, positions, references, value, geometry.shapes)
        return tokens

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        references: Tensor,
        geometry: Geometry,
        plan: TokenPlan,
        class_head: Callable[[Tensor], Tensor],
        *,
        frozen_values: bool = False,
        raw_category_product: bool = False,
        padded_fine_tokens: bool = False,
    ) -> Tensor:
        """The tokens of ``plan`` only: tokens, positions (B,N,C), references (B,N,L,2) -> memory (B,N,C)."""
        kept, kept_positions = take(tokens, plan.indices), take(positions, plan.indices)
        kept_references = take(references.flatten(2), plan.indices).unflatten(-1, references.shape[2:])
        foreground = plan_scores(plan, geometry, padded_fine_tokens)
        memory = tokens
        finished: list[Tensor] = []  # rows that no later layer works on, the last first
        for j, layer in enumerate(self.stack()):
            count = plan.counts[j]
            kept, left = kept[:, :count], kept[:, count:]
            finished.insert(0, left)
            rows = plan.rows(j)
            priority = category_priority(class_head(kept), foreground[:, :count], raw_category_product)
            if rows is not None and not padded_fine_tokens:
                priority = priority.masked_fill(~rows, float("-inf"))
            value = layer.deformable_attention.project(memory, geometry.valid)
            updated = layer.attend_fine_tokens(
                kept, kept_positions[:, :count], priority, self.num_fine_tokens
            )
            updated = layer(
                updated, kept_positions[:, :count], kept_references[:, :count], value, geometry.shapes
            )
            kept = updated if rows is None else torch.where(rows[..., None], updated, kept)
            if not frozen_values:
                memory = put(memory, plan.indices[:, :count], kept)
        if frozen_values:
            memory = put(tokens, plan.indices, torch.cat([kept, *finished], 1))
        return memory


def plan_scores(plan: TokenPlan, geometry: Geometry, padded: bool) -> Tensor:
    """(B,K_0) foreground logits of the kept tokens; as released, ``padded`` ones have the batch's lowest."""
    scores = plan.scores.detach()
    if padded and geometry.valid is not None:
        scores = torch.where(geometry.valid, scores, scores.min())
    return scores.gather(1, plan.indices)


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """Rows (B,K) of tokens (B,N,C) -> (B,K,C)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


def put(tokens: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """A copy of tokens (B,N,C) with rows (B,K,C) written at indices (B,K)."""
    return tokens.scatter(1, indices[..., None].expand(-1, -1, tokens.shape[-1]), rows.to(tokens.dtype))

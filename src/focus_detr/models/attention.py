"""The attentions of encoders and decoders, and the feed-forward network between them."""

# Shapes: B images, N tokens of all levels, Q queries, M attended to, C channels, h heads, L levels, P points.

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.ops import multi_scale_deformable_attention
from focus_detr.structures.geometry import table

Samples = tuple[Tensor, Tensor]  # locations (B,Q,h,L,P,2) on the canvas and weights (B,Q,h,L,P)


class Attention(nn.Module):
    """Multi-head attention; who attends to what is its subclasses' matter."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)

    def project(self, tokens: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """Tokens (B,N,C) through projections ``first`` to ``last`` of queries 0, keys 1 and values 2."""
        rows = slice(first * tokens.shape[-1], (last + 1) * tokens.shape[-1])
        return F.linear(tokens, self.in_proj_weight[rows], self.in_proj_bias[rows]).chunk(
            last - first + 1, -1
        )

    def mix(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        """query (B,Q,C), key and value (B,M,C), projected; allowed broadcasts to (B,h,Q,M) -> (B,Q,C)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class SelfAttention(Attention):
    """Attention among tokens; positions join queries and keys, not values."""

    def forward(self, tokens: Tensor, positions: Tensor, allowed: Tensor | None = None) -> Tensor:
        """tokens, positions (B,Q,C); allowed, True where a query may attend, broadcast to (B,h,Q,Q)."""
        query, key = self.project(tokens + positions, 0, 1)
        (value,) = self.project(tokens, 2, 2)
        return self.mix(query, key, value, allowed)


class CrossAttention(Attention):
    """Attention of queries to a memory; positions join queries and keys, not values."""

    def forward(
        self, queries: Tensor, memory: Tensor, memory_positions: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """queries (B,Q,C) with positions, memory and its positions (B,M,C); allowed as (B,h,Q,M)."""
        (query,) = self.project(queries, 0, 0)
        (key,) = self.project(memory + memory_positions, 1, 1)
        (value,) = self.project(memory, 2, 2)
        return self.mix(query, key, value, allowed)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Deformable DETR, eq. 3; spec 1.6, last item)."""

    called_besides_forward: ClassVar = ("project", "attend")  # see `training.sharding.shard`

    def __init__(self, channels: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)

    def project(self, memory: Tensor, valid: Tensor | None) -> Tensor:
        """Values (B,N,h,C/h) of memory (B,N,C); padding gives zeros, as sampling outside the image does."""
        value = self.value_proj(memory)
        if valid is not None:
            value = value.masked_fill(~valid[..., None], 0.0)
        return value.unflatten(-1, (self.heads, -1))

    def forward(
        self, queries: Tensor, references: Tensor, value: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """queries (B,Q,C) about references (B,Q,L,2) points or (B,Q,L,4) boxes_cxcywh, on the canvas."""
        return self.attend(queries, references, value, shapes)[0]

    def attend(
        self, queries: Tensor, references: Tensor, value: Tensor, shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Samples]:
        """What queries (B,Q,C) find, (B,Q,C), and where they looked."""
        samples = self.sample(queries, references, shapes)
        return self.gather(value, shapes, *samples), samples

    def sample(
        self, queries: Tensor, references: Tensor, shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Where queries look, and how much it counts: locations (B,Q,h,L,P,2), weights (B,Q,h,L,P)."""
        weights = self.attention_weights(queries).unflatten(-1, (self.heads, -1)).softmax(-1)
        return self.locate(queries, references, shapes), weights.unflatten(-1, (self.levels, self.points))

    def locate(self, queries: Tensor, references: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Where queries (B,Q,C) look: (B,Q,h,L,P,2)."""
        return self.move(self.sampling_offsets(queries), references, shapes)

    def move(self, offsets: Tensor, references: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Offsets (B,Q,2hLP) from references (B,Q,L,2 or 4) as places (B,Q,h,L,P,2) on the canvas."""
        offsets = offsets.unflatten(-1, (self.heads, self.levels, self.points, 2))
        # Coordinates need float32: half precision cannot tell neighbouring pixels of a large map apart.
        offsets = offsets.to(references.dtype)
        references = references[:, :, None, :, None]  # (B,Q,1,L,1,2 or 4)
        if references.shape[-1] == 2:
            scale = table(shapes, offsets.device).flip(-1)
            return references + offsets / scale.to(offsets.dtype)[:, None]
        return references[..., :2] + offsets / self.points * references[..., 2:] * 0.5

    def places(self, samples: Samples, shapes: list[tuple[int, int]]) -> Samples:
        """What `sample` gave, as locations (B,Q,h,L,P,2) on the canvas and weights (B,Q,h,L,P)."""
        return samples

    def gather(
        self, value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
    ) -> Tensor:
        """Values (B,N,h,C/h) sampled, weighed, summed and mixed: (B,Q,C)."""
        return self.output_proj(multi_scale_deformable_attention(value, shapes, locations, weights))

    def start(self) -> None:
        """Deformable DETR's start: equal weights, and offsets as `reset_offsets` has them."""
        self.reset_offsets()
        init.zeros_(self.attention_weights.weight)
        init.zeros_(self.attention_weights.bias)

    def reset_offsets(self) -> None:
        """Each head looks along its own direction, each point one cell further."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2.0 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().max(-1, keepdim=True).values
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * steps[:, None]  # (h,1,P,2)
        init.copy_(self.sampling_offsets.bias, offsets.expand(-1, self.levels, -1, -1).flatten())
        init.zeros_(self.sampling_offsets.weight)


class FeedForward(nn.Module):
    """Linear, ReLU, Linear: (..., C) -> (..., C)."""

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.relu(self.linear1(tokens))))


class MLP(nn.Module):
    """Linear layers of ``widths`` with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            tokens = F.relu(layer(tokens))
        return self.layers[-1](tokens)

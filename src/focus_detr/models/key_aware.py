"""Key-aware deformable attention: weights from keys sampled where the values are (Lite-DETR; spec 4.4)."""

# Shapes: B images, N tokens of all levels, Q queries, C channels, h heads, L levels, P points,
# H W height and width of a level, D numbers a token and head.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr.models.attention import DeformableAttention, Samples

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class KeyAwareOptions:
    """How sampled points are weighed."""

    key_aware: bool = False
    """Attention weights from sampled keys; slower, and no other computation for the rest."""
    own_keys: bool = True
    """Keys have a projection of their own; the release takes the values for them."""


def sampling_attention(config: FocusDetrConfig, options: KeyAwareOptions) -> DeformableAttention:
    """The attention to sampled points that ``options`` say."""
    c = config
    shape = (c.d_model, c.attention_heads, c.num_levels, c.num_points)
    return KeyAwareAttention(*shape, options.own_keys) if options.key_aware else DeformableAttention(*shape)


class KeyAwareAttention(DeformableAttention):
    """softmax(q k / sqrt(C/h)) over the L*P sampled points, where deformable attention predicts weights.

    In plain torch: it holds a key and a value for every point, and is slower than deformable attention.

    Args:
        own_keys: keys have a projection of their own; otherwise they are the values, as released.
    """

    def __init__(self, channels: int, heads: int, levels: int, points: int, own_keys: bool = True) -> None:
        super().__init__(channels, heads, levels, points)
        del self.attention_weights
        self.query_proj = nn.Linear(channels, channels)
        self.key_proj = nn.Linear(channels, channels) if own_keys else None

    def project(self, memory: Tensor, valid: Tensor | None) -> Tensor:
        """Values (B,N,h,C/h), or values and keys (B,N,h,2C/h), of memory (B,N,C); padding gives zeros."""
        value = super().project(memory, valid)
        if self.key_proj is None:
            return value
        key = self.key_proj(memory)
        if valid is not None:
            key = key.masked_fill(~valid[..., None], 0.0)
        return torch.cat([value, key.unflatten(-1, (self.heads, -1))], -1)

    def attend(
        self, queries: Tensor, references: Tensor, value: Tensor, shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Samples]:
        locations = self.locate(queries, references, shapes)
        sampled = sample_points(value, shapes, locations).to(queries.dtype)
        values, keys = (sampled, sampled) if self.key_proj is None else sampled.chunk(2, -1)  # (B,Q,h,LP,C/h)
        query = self.query_proj(queries).unflatten(-1, (self.heads, 1, -1))
        weights = ((query * keys).sum(-1) / math.sqrt(keys.shape[-1])).softmax(-1)  # (B,Q,h,LP)
        attended = self.output_proj((weights[..., None] * values).sum(-2).flatten(2))
        return attended, (locations, weights.unflatten(-1, (self.levels, self.points)))

    def start(self) -> None:
        """Offsets as in deformable attention."""
        self.reset_offsets()


def sample_points(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor) -> Tensor:
    """Bilinear samples (B,Q,h,LP,D) of value (B,N,h,D) at locations (B,Q,h,L,P,2); zeros outside."""
    heads = value.shape[2]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (Bh,Q,L,P,2)
    sampled = []
    for level, part in enumerate(value.split([height * width for height, width in shapes], 1)):
        maps = part.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, shapes[level])  # (Bh,D,H,W)
        sampled.append(F.grid_sample(maps.to(grids.dtype), grids[:, :, level], align_corners=False))
    points = torch.cat(sampled, -1).unflatten(0, (-1, heads))  # (B,h,D,Q,LP)
    return points.permute(0, 3, 1, 4, 2)

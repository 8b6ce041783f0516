"""DETR: learned queries attend to every token of one coarse level (spec 4.3; DETR section 3.2)."""

# Shapes: B images, Q queries, M tokens of the memory, C channels, h heads, k classes.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.errors import FocusDetrError
from focus_detr.models.attention import CrossAttention, FeedForward, SelfAttention
from focus_detr.models.checkpointing import CheckpointedLayer
from focus_detr.models.hosts.base import HOSTS, Host, Labels
from focus_detr.models.layers import Layers, first
from focus_detr.models.objective import objective_of
from focus_detr.models.precision import FullLinear, FullMLP
from focus_detr.models.proposals import Proposals
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.queries import DenoisingQueries

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class DetrOptions:
    """What else DETR's recipe has."""

    no_object_weight: float = 0.1
    """How much a query that answers for nothing counts in the class loss."""


@HOSTS.register("detr")
class DetrHost(Host):
    """Queries without a place of their own; their last class is "no object"."""

    takes_layers = True
    options_class = DetrOptions
    options: DetrOptions
    coordinates_in_own_precision = True
    single_scale = True
    scoring = "softmax"

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        c = config
        assert c.num_labels is not None
        self.query_position = nn.Embedding(c.num_queries, c.d_model)
        self.decoder = AttentionDecoder(c)
        self.class_head = FullLinear(c.d_model, c.num_labels + 1)
        self.box_head = FullMLP(c.d_model, c.d_model, c.d_model, 4)
        # The original adds nothing to areas, and fails on empty boxes.
        self.objective = objective_of(c, eps=1e-12, no_object_weight=self.options.no_object_weight)

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        if config.num_levels != 1:
            raise FocusDetrError(
                f"num_levels={config.num_levels}: host 'detr' attends to every token of one level; use 1, "
                "and a backbone with one output, the coarsest"
            )

    @classmethod
    def two_stage(cls, config: FocusDetrConfig) -> bool:
        return False

    def forward(
        self,
        memory: Memory,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        *,
        with_samples: bool = False,
        layers: int | None = None,
    ) -> DecoderOutput:
        positions = self.query_position.weight.expand(len(memory.tokens), -1, -1)
        states = self.decoder(positions, memory, layers)
        boxes = [self.box_head(state).sigmoid() for state in states]
        # Queries look everywhere at once: what comes nearest to a start is the middle of the image.
        middle = torch.full_like(boxes[0][..., :2], 0.5)
        output = DecoderOutput(states, [middle] * len(states))
        output.logits, output.boxes = [self.class_head(state) for state in states], boxes
        return output

    def start(self) -> None:
        init.normal_(self.query_position.weight)


class AttentionDecoder(nn.Module):
    """Layers over queries that start empty; one norm after each of them."""

    def __init__(self, config: FocusDetrConfig) -> None:
        super().__init__()
        c = config
        self.layers = Layers(
            AttentionDecoderLayer(c.d_model, c.attention_heads, c.decoder_ffn_dim, c.dropout)
            for _ in range(c.decoder_layers)
        )
        self.norm = nn.LayerNorm(c.d_model)

    def forward(self, positions: Tensor, memory: Memory, layers: int | None = None) -> list[Tensor]:
        """Queries at positions (B,Q,C) -> their states (B,Q,C) after each of the first ``layers``."""
        assert memory.positions is not None
        allowed = None if memory.valid is None else memory.valid[:, None, None]
        states, after = torch.zeros_like(positions), []
        for _, layer in first(self.layers, layers):
            states = layer(states, positions, memory.tokens, memory.positions, allowed)
            after.append(self.norm(states))
        return after


class AttentionDecoderLayer(CheckpointedLayer):
    """Self-attention among queries, attention to the memory, feed-forward."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = SelfAttention(channels, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(channels)
        self.cross_attention = CrossAttention(channels, heads, dropout)
        self.cross_attention_norm = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, hidden, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        positions: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        allowed: Tensor | None,
    ) -> Tensor:
        """queries, positions (B,Q,C), memory with positions (B,M,C), allowed as (B,h,Q,M) -> (B,Q,C)."""
        attended = self.self_attention(queries, positions)
        queries = self.self_attention_norm(queries + self.dropout(attended))
        found = self.cross_attention(queries + positions, memory, memory_positions, allowed)
        queries = self.cross_attention_norm(queries + self.dropout(found))
        return self.ffn_norm(queries + self.dropout(self.ffn(queries)))

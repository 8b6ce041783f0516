"""Interleaved: coarse levels in every layer, fine ones at the end of each block (Lite-DETR; spec 4.4).

The name HxLy-(A+1)xB: of the levels the last x are high-level and the first y low-level; in each of B blocks
the high-level tokens are updated A times and the low-level ones once, by the block's last layer.
"""

# Shapes: B images, N tokens of all levels, C channels, L levels.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from focus_detr.errors import FocusDetrError
from focus_detr.models.attention import FeedForward
from focus_detr.models.key_aware import KeyAwareOptions, sampling_attention
from focus_detr.models.layers import Layers
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.encoder import EncoderLayer
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.structures.budget import Budget
from focus_detr.structures.memory import Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import descending
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class InterleavedOptions(KeyAwareOptions):
    """What is high-level, and how often the rest is updated."""

    high_levels: int = 3
    """Levels, the coarsest ones, whose tokens every layer works on."""
    blocks: int = 3
    """Runs of equally many layers, the last of which works on all tokens."""
    small_ffn: bool = True
    """Low-level tokens have a feed-forward network of their own, as wide as a token."""


@POLICIES.register("interleaved")
class InterleavedPolicy(TokenPolicy):
    """Deformable attention to all tokens, of the high-level ones or of all in turn."""

    options_class = InterleavedOptions
    options: InterleavedOptions

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        block = config.encoder_layers // self.options.blocks
        # A layer without low-level tokens has no use for a network for them.
        self.ends = [(j + 1) % block == 0 for j in range(config.encoder_layers)]
        self.low_levels = config.num_levels - self.options.high_levels
        self.layers = Layers(
            InterleavedLayer(config, self.low_levels if end else 0, self.options) for end in self.ends
        )

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options: InterleavedOptions = read_options(cls.options_class, config.policy_options, "policy_options")
        if not 1 <= options.high_levels <= config.num_levels:
            raise FocusDetrError(
                f"policy_options['high_levels']={options.high_levels}: must lie in [1, {config.num_levels}], "
                f"of num_levels={config.num_levels}"
            )
        if options.blocks < 1 or config.encoder_layers % options.blocks:
            fitting = [n for n in range(1, config.encoder_layers + 1) if config.encoder_layers % n == 0]
            raise FocusDetrError(
                f"policy_options['blocks']={options.blocks}: must divide encoder_layers="
                f"{config.encoder_layers}; use one of {', '.join(map(str, fitting))}"
            )

    def plan(self, tokens: Tokens, budget: Budget | None = None) -> TokenPlan:
        """Decided by level alone: high-level tokens before low-level ones, in the order they have."""
        geometry, batch = tokens.geometry, len(tokens.content)
        low, total = sum(geometry.lengths[: self.low_levels]), geometry.num_tokens
        counts = tuple(total if end else total - low for end in self.ends)
        place = torch.arange(total, device=tokens.content.device)
        if geometry.valid is None:
            return TokenPlan(None, place.roll(-low).expand(batch, -1), counts, None)
        rank = torch.where(geometry.valid, (place >= low).long(), -1)
        high, both = (geometry.sizes[:, first:].prod(-1).sum(-1) for first in (self.low_levels, 0))
        valid_counts = torch.stack([both if end else high for end in self.ends], 1)
        return TokenPlan(None, descending(rank, total), counts, valid_counts)

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        geometry, references = tokens.geometry, tokens.references()
        memory = tokens.content
        low = sum(geometry.lengths[: self.low_levels])
        # High-level tokens lie together: what the plan says is a slice, and needs no gathering.
        for end, layer in zip(self.ends, self.layers, strict=True):
            value = layer.deformable_attention.project(memory, geometry.valid)
            first = 0 if end else low
            worked_on = memory[:, first:], tokens.positions[:, first:], references[:, first:]
            updated = layer(*worked_on, value, geometry.shapes)
            memory = updated if end else torch.cat([memory[:, :low], updated], 1)
        return Memory(memory, geometry, plan)


class InterleavedLayer(EncoderLayer):
    """An encoder layer whose first ``low_levels`` levels may have a small feed-forward network."""

    def __init__(self, config: FocusDetrConfig, low_levels: int, options: InterleavedOptions) -> None:
        c = config
        super().__init__(
            c.d_model, c.attention_heads, c.num_levels, c.num_points, c.encoder_ffn_dim, c.dropout, False
        )
        if options.key_aware:
            self.deformable_attention = sampling_attention(c, options)
        self.low_levels = low_levels if options.small_ffn else 0
        if self.low_levels:
            self.low_ffn = FeedForward(c.d_model, c.d_model, c.dropout)
            self.low_ffn_norm = nn.LayerNorm(c.d_model)

    def feed_forward(self, tokens: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        if not self.low_levels:
            return super().feed_forward(tokens, shapes)
        low = sum(height * width for height, width in shapes[: self.low_levels])
        fine, coarse = tokens[:, :low], tokens[:, low:]
        fine = self.low_ffn_norm(fine + self.dropout(self.low_ffn(fine)))
        return torch.cat([fine, super().feed_forward(coarse, shapes)], 1)

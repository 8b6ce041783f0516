"""Focus: the foreground, in a cascade, with dual attention (paper section 3).

The kept tokens of all layers are prefixes of one sort. They are gathered once into a compact buffer; layer j
works on its first K_j rows, and rows that a layer leaves behind are finished. Shapes are static, and no image
is treated on its own.
"""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on, C channels, L levels, k classes.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.losses.foreground import foreground_loss, foreground_targets
from focus_detr.models.layers import Layers
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.encoder import encoder_layers
from focus_detr.models.policies.scoring import ForegroundSelector, category_priority
from focus_detr.models.policies.selection import plan_tokens
from focus_detr.models.proposals import Proposals
from focus_detr.structures.budget import Budget, Share
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import gather_rows, scatter_rows
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class FocusOptions:
    """Parts of the paper that can be left out, to see what each is worth."""

    top_down: bool = True
    """Scores of a level modulate those of the next finer one; otherwise each level is scored by itself."""
    dual_attention: bool = True
    """Fine-grained tokens attend to one another; otherwise there is deformable attention alone."""
    category_score: bool = True
    """Fine-grained tokens have the best category times foreground score; otherwise foreground score alone."""


@POLICIES.register("focus")
class FocusPolicy(TokenPolicy):
    """Foreground selection with top-down modulation, cascade and dual attention."""

    needs_proposals = True
    has_keep_ratio = True
    takes_budget = True
    options_class: ClassVar[type[FocusOptions]] = FocusOptions
    options: FocusOptions

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        self.selector = ForegroundSelector(config.d_model, config.num_levels, self.options.top_down)
        self.layers = Layers(encoder_layers(config, dual=self.options.dual_attention))
        self.num_fine_tokens = config.num_fine_tokens
        self.quirks = config.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        check_cascade(config)

    def plan(self, tokens: Tokens, budget: Budget | None = None) -> TokenPlan:
        """Score every token and keep the foreground."""
        return self.select(self.score(tokens), tokens.geometry, budget)

    def score(self, tokens: Tokens) -> Tensor:
        """Foreground logits (B,N)."""
        assert self.proposals is not None

        def scorer(features: Tensor) -> Tensor:
            return self.selector(features, tokens.geometry, use_padding=self.quirks.padded_statistics)

        return self.proposals.score(scorer, tokens)

    def select(self, scores: Tensor, geometry: Geometry, budget: Budget | None) -> TokenPlan:
        """The plan that foreground logits (B,N) make."""
        ratio: Share = self.config.keep_ratio
        cascade: Sequence[Share] = self.config.cascade
        if budget is not None:
            ratio, cascade = budget.cascade(ratio, self.config.cascade)
        return plan_tokens(
            scores,
            geometry,
            ratio,
            cascade,
            batch_counts=self.quirks.batch_counts,
            batch_fill=self.quirks.batch_fill,
        )

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        assert plan is not None
        quirks, geometry = self.quirks, tokens.geometry
        # One compact buffer of the foreground, best first: layer j works on its first K_j rows.
        #   rows      0 ............ K_2 ......... K_1 ......... K_0
        #   layer 0   [------------------------------------------]
        #   layer 1   [----------------------------] finished
        #   layer 2   [--------------] finished
        kept = gather_rows(tokens.content, plan.indices)  # (B,K_0,C)
        kept_positions = gather_rows(tokens.positions, plan.indices)  # (B,K_0,C)
        kept_references = gather_rows(tokens.references(), plan.indices)  # (B,K_0,L,2)
        foreground = plan_scores(plan, geometry, quirks.padded_fine_tokens)  # (B,K_0)
        memory = tokens.content  # (B,N,C), what is attended to
        finished: list[Tensor] = []  # rows that no later layer works on, the last first
        for j, layer in enumerate(self.layers):
            count = plan.counts[j]
            kept, left = kept[:, :count], kept[:, count:]
            finished.insert(0, left)
            rows = plan.rows(j)  # (B,K_j), those that are an image's own
            # Values are of all tokens: those that are not kept can still be looked at.
            value = layer.deformable_attention.project(memory, geometry.valid)  # (B,N,h,C/h)
            positions, references = kept_positions[:, :count], kept_references[:, :count]
            updated = kept
            if self.options.dual_attention:
                priority = self._priority(kept, foreground[:, :count], rows)
                updated = layer.attend_fine_tokens(kept, positions, priority, self.num_fine_tokens)
            updated = layer(updated, positions, references, value, geometry.shapes)
            # A smaller image of a batch is done with the rows beyond its own count.
            kept = updated if rows is None else torch.where(rows[..., None], updated, kept)
            if not quirks.frozen_values:
                memory = scatter_rows(memory, plan.indices[:, :count], kept)
        if quirks.frozen_values:
            # As released: layers saw the neck's features, so one write at the end is enough.
            memory = scatter_rows(tokens.content, plan.indices, torch.cat([kept, *finished], 1))
        return Memory(memory, geometry, plan)

    def _priority(self, kept: Tensor, foreground: Tensor, rows: Tensor | None) -> Tensor:
        # (B,K): how fine-grained each kept token is.
        priority = foreground
        if self.options.category_score:
            assert self.proposals is not None
            category = self.proposals.class_head(kept)
            priority = category_priority(category, foreground, self.quirks.raw_category_product)
        if rows is not None and not self.quirks.padded_fine_tokens:
            priority = priority.masked_fill(~rows, float("-inf"))
        return priority

    def losses(
        self, memory: Memory, decoded: DecoderOutput, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The foreground selector's loss, from the boxes (spec 1.9)."""
        c, quirks, geometry = self.config, self.config.switches, memory.geometry
        assert memory.plan is not None and memory.plan.scores is not None
        targets = foreground_targets(geometry, strides, c.foreground_ranges, labels)
        valid = None if quirks.padded_foreground_loss else geometry.valid
        loss = foreground_loss(
            memory.plan.scores, targets, valid, c.focal_alpha, c.focal_gamma, quirks.naive_focal
        )
        return {"loss_foreground": c.foreground_loss_coefficient * loss}


def check_cascade(config: FocusDetrConfig) -> None:
    """Refuse a cascade that does not fit the encoder."""
    cascade = list(config.cascade)
    if len(cascade) != config.encoder_layers:
        raise FocusDetrError(
            f"cascade={cascade}: needs one share for each of the {config.encoder_layers} encoder layers"
        )
    if any(not 0 < share <= 1 for share in cascade) or cascade != sorted(cascade, reverse=True):
        raise FocusDetrError(f"cascade={cascade}: shares must lie in (0, 1] and must not increase")


def plan_scores(plan: TokenPlan, geometry: Geometry, padded: bool) -> Tensor:
    """(B,K_0) foreground logits of the kept tokens; as released, ``padded`` ones have the batch's lowest."""
    assert plan.scores is not None
    scores = plan.scores.detach()
    if padded and geometry.valid is not None:
        scores = torch.where(geometry.valid, scores, scores.min())
    return scores.gather(1, plan.indices)

"""Focus: the foreground, in a cascade, with dual attention (paper section 3).

The kept tokens of all layers are prefixes of one sort. They are gathered once into a compact buffer; layer j
works on its first K_j rows, and rows that a layer leaves behind are finished. Shapes are static, and no image
is treated on its own.
"""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on, C channels, h heads,
# L levels, F fine-grained.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.losses.foreground import foreground_loss, foreground_targets, graded_targets
from focus_detr.models.layers import Layers
from focus_detr.models.options import check_keep_ratio
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.chooser import BudgetChooser
from focus_detr.models.policies.encoder import EncoderLayer, encoder_layers
from focus_detr.models.policies.foreground import (
    FocusOptions,
    ForegroundOptions,
    check_foreground,
    check_quotas,
    check_reactivation,
    foreground_ranges,
    foreground_units,
)
from focus_detr.models.policies.reactivation import Rescorer
from focus_detr.models.policies.scoring import ForegroundSelector, category_priority
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.models.selection import plan_by_quotas, plan_tokens, quotas_at
from focus_detr.structures.budget import Budget, Share, share
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import descending, gather_rows, scatter_rows
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@POLICIES.register("focus")
class FocusPolicy(TokenPolicy):
    """Foreground selection with top-down modulation, cascade and dual attention."""

    needs_proposals = True
    has_keep_ratio = True
    takes_budget = True
    options_class: ClassVar[type[ForegroundOptions]] = FocusOptions
    options: ForegroundOptions

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        self.selector = ForegroundSelector(
            config.d_model, config.num_levels, self.options.top_down, self.options.modulates
        )
        units = foreground_units(self.options, config)
        self.graded = units < config.encoder_ffn_dim
        self.layers = Layers(
            encoder_layers(config, self.options.dual_attention, units if self.graded else None)
        )
        self.rescorers: Layers[Rescorer] | None = None
        if isinstance(self.options, FocusOptions) and self.options.reactivation:
            self.rescorers = Layers(Rescorer(config.d_model) for _ in range(config.encoder_layers - 1))
        self.chooser = BudgetChooser() if self.options.learned_budget else None
        self.num_fine_tokens = self.options.num_fine_tokens
        self.foreground_ranges = foreground_ranges(self.options, config.num_levels)
        self.quirks = config.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options = read_options(cls.options_class, config.policy_options, "policy_options")
        check_foreground(options, config)
        if isinstance(options, FocusOptions):
            check_keep_ratio(options)
            if options.graded_labels and config.switches.naive_focal:
                raise FocusDetrError(
                    "policy_options['graded_labels']=True: the quirk naive_focal knows no grades; leave out "
                    "one of the two"
                )
            if options.level_quotas:
                check_quotas(options.level_quotas, config)
            check_reactivation(options, config)

    def plan(self, tokens: Tokens, budget: Budget | None = None) -> TokenPlan:
        """Score every token and keep the foreground."""
        return self.select(self.score(tokens), tokens.geometry, budget)

    @property
    def nested(self) -> bool:
        return isinstance(self.options, FocusOptions) and not self.options.level_quotas

    def keeps(self) -> tuple[float, tuple[float, ...]]:
        assert isinstance(self.options, FocusOptions)
        return self.options.keep_ratio, self.options.cascade

    def score(self, tokens: Tokens) -> Tensor:
        assert self.proposals is not None

        def scorer(features: Tensor) -> Tensor:
            return self.selector(features, tokens.geometry, use_padding=self.quirks.padded_statistics)

        return self.proposals.score(scorer, tokens)

    def select(self, scores: Tensor, geometry: Geometry, budget: Budget | None) -> TokenPlan:
        assert isinstance(self.options, FocusOptions)
        if self.options.level_quotas:
            return self._by_quotas(scores, geometry, budget, self.options.level_quotas)
        ratio: Share = self.options.keep_ratio
        cascade: Sequence[Share] = self.options.cascade
        if budget is not None:
            ratio, cascade = budget.cascade(ratio, self.options.cascade)
        return plan_tokens(
            scores,
            geometry,
            ratio,
            cascade,
            batch_counts=self.quirks.batch_counts,
            batch_fill=self.quirks.batch_fill,
        )

    def _by_quotas(
        self, scores: Tensor, geometry: Geometry, budget: Budget | None, quotas: Sequence[Share]
    ) -> TokenPlan:
        # As `select`, each level by itself.
        cascade: Sequence[Share] = self.options.cascade
        if budget is not None:
            quotas, cascade = quotas_at(budget, quotas, self.options.cascade)
        return plan_by_quotas(
            scores,
            geometry,
            quotas,
            cascade,
            batch_counts=self.quirks.batch_counts,
            batch_fill=self.quirks.batch_fill,
        )

    @property
    def chooses(self) -> bool:
        return self.chooser is not None

    def expects(self, scores: Tensor, valid: Tensor | None, budget: float) -> Tensor:
        assert self.chooser is not None
        return torch.exp(-self.chooser(scores, valid, budget))

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        assert plan is not None
        if self.chooser is not None and self.training:
            assert plan.scores is not None
            budget = sum(plan.counts) / len(plan.counts) / tokens.geometry.num_tokens
            expected = self.chooser(plan.scores.detach(), tokens.geometry.valid, budget)
            plan = replace(plan, expected=expected)
        if self.rescorers is not None:
            return self._choosing_anew(tokens, plan, self.rescorers)
        return self._in_cascade(tokens, plan)

    def _in_cascade(self, tokens: Tokens, plan: TokenPlan) -> Memory:
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
        fine: list[Tensor] = []  # (B,F), those of self-attention
        for j, layer in enumerate(self.layers):
            count = plan.counts[j]
            kept, left = kept[:, :count], kept[:, count:]
            finished.insert(0, left)
            rows = plan.rows(j)  # (B,K_j), those that are an image's own
            # Values are of all tokens: those that are not kept can still be looked at.
            value = layer.deformable_attention.project(memory, geometry.valid)  # (B,N,h,C/h)
            places = kept_positions[:, :count], kept_references[:, :count]
            kept = self._worked_on(layer, kept, places, foreground[:, :count], rows, value, geometry, fine)
            if not quirks.frozen_values:
                memory = scatter_rows(memory, plan.indices[:, :count], kept)
        if quirks.frozen_values:
            # As released: layers saw the neck's features, so one write at the end is enough.
            memory = scatter_rows(tokens.content, plan.indices, torch.cat([kept, *finished], 1))
        return Memory(memory, geometry, plan, fine=fine)

    def _choosing_anew(self, tokens: Tokens, plan: TokenPlan, rescorers: Layers[Rescorer]) -> Memory:
        # As `forward`, but that a layer chooses from all tokens by what those before it found out: nothing is
        # finished, and rows are gathered from the memory each time.
        geometry, references, memory = tokens.geometry, tokens.references(), tokens.content
        scores = plan.order_of(geometry.valid)  # (B,N)
        chosen: list[Tensor] = []
        found: list[Tensor] = []
        fine: list[Tensor] = []
        for j, layer in enumerate(self.layers):
            indices = (
                descending(scores, plan.counts[j]) if j else plan.indices[:, : plan.counts[0]]
            )  # (B,K_j)
            rows, foreground = plan.rows(j), scores.gather(1, indices)  # (B,K_j) both
            value = layer.deformable_attention.project(memory, geometry.valid)
            kept, *places = (gather_rows(each, indices) for each in (memory, tokens.positions, references))
            kept = self._worked_on(layer, kept, places, foreground, rows, value, geometry, fine)
            memory = scatter_rows(memory, indices, kept)
            chosen.append(indices)
            if j < len(rescorers):
                known = foreground + rescorers[j](kept)
                # What the image alone would not have worked on stays as it was.
                found.append(known if rows is None else torch.where(rows, known, foreground))
                scores = scores.scatter(1, indices, found[-1].detach())
        return Memory(memory, geometry, replace(plan, chosen=tuple(chosen)), fine=fine, found=found)

    def _worked_on(
        self,
        layer: EncoderLayer,
        kept: Tensor,
        places: Sequence[Tensor],
        foreground: Tensor,
        rows: Tensor | None,
        value: Tensor,
        geometry: Geometry,
        fine: list[Tensor],
    ) -> Tensor:
        # The rows kept (B,K,C) after a layer, and to ``fine`` those (B,F) that attended to one another.
        # places: positions (B,K,C) and references (B,K,L,2); foreground, rows (B,K); value (B,N,h,C/h).
        positions, references = places
        updated = kept
        if self.options.dual_attention:
            priority = self._priority(kept, foreground, rows)
            count, own = self._fine_counts(kept.shape[1], rows)
            updated, picked = layer.attend_fine_tokens(kept, positions, priority, count, own)
            fine.append(picked)
        grades = fine[-1:] if self.graded else ()
        updated = layer(updated, positions, references, value, geometry.shapes, *grades)
        # A smaller image of a batch is done with the rows beyond its own count.
        return updated if rows is None else torch.where(rows[..., None], updated, kept)

    def _fine_counts(self, kept: int, rows: Tensor | None) -> tuple[int, Tensor | None]:
        # How many rows are fine-grained, and how many of each image (B,), None where all of them.
        fine_share = self.options.fine_share
        if not fine_share:
            return self.num_fine_tokens, None
        own = None if rows is None else share(fine_share, rows.sum(1)) + 1
        return share(fine_share, kept) + 1, own

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
        targets = self._targets(geometry, strides, labels)
        valid = None if quirks.padded_foreground_loss else geometry.valid
        loss = foreground_loss(
            memory.plan.scores, targets, valid, c.focal_alpha, c.focal_gamma, quirks.naive_focal
        )
        return {"loss_foreground": self.options.foreground_loss_coefficient * loss}

    def _targets(self, geometry: Geometry, strides: list[int], labels: list[dict[str, Tensor]]) -> Tensor:
        # (B,N), what scores are to be.
        graded = isinstance(self.options, FocusOptions) and self.options.graded_labels
        make = graded_targets if graded else foreground_targets
        return make(geometry, strides, self.foreground_ranges, labels)

    def pass_losses(
        self, memory: Memory, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The foreground selector's loss of what layers found out, where they do: that of a budget is not
        that of another."""
        assert memory.plan is not None
        # Distributed training wants every parameter in every step, whatever teaches the chooser.
        expected = memory.plan.expected
        parts = {} if expected is None else {"loss_choice": 0.0 * expected.sum()}
        if not memory.found:
            return parts
        c = self.config
        targets = self._targets(memory.geometry, strides, labels)
        each = []
        for j, scores in enumerate(memory.found):
            indices, rows = memory.plan.kept(j)  # (B,K_j) both
            wanted = targets.gather(1, indices)
            each.append(foreground_loss(scores, wanted, rows, c.focal_alpha, c.focal_gamma))
        loss = torch.stack(each).mean()
        return parts | {"loss_reactivation": self.options.foreground_loss_coefficient * loss}


def plan_scores(plan: TokenPlan, geometry: Geometry, padded: bool) -> Tensor:
    """(B,K_0) foreground logits of the kept tokens; as released, ``padded`` ones have the batch's lowest."""
    assert plan.scores is not None
    scores = plan.scores.detach()
    if padded and geometry.valid is not None:
        scores = torch.where(geometry.valid, scores, scores.min())
    return scores.gather(1, plan.indices)

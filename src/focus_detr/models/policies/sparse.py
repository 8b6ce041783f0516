"""Sparse: one set of tokens for all layers, which the decoder's attention teaches (Sparse DETR, spec 4.2)."""

# Shapes: B images, N tokens of all levels, K kept, C channels, Q queries, L levels, h heads, P points.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.losses.attention_map import decoder_attention_map
from focus_detr.losses.criterion import num_boxes
from focus_detr.losses.targets import Predictions, Targets
from focus_detr.losses.whole_step import mean_of_images
from focus_detr.models.heads.boxes import BoxHead
from focus_detr.models.heads.classes import ClassHead
from focus_detr.models.layers import Layers
from focus_detr.models.objective import objective_of
from focus_detr.models.options import check_keep_ratio
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.encoder import encoder_layers
from focus_detr.models.policies.scoring import TokenScorer
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.models.selection import plan_tokens
from focus_detr.structures.budget import Budget
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import descending, gather_rows, scatter_rows
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class SparseOptions:
    """What can be told to Sparse DETR's policy."""

    keep_ratio: float = 0.5
    """Share of tokens that every layer works on."""
    auxiliary_losses: bool = True
    """Every encoder layer but the last predicts objects from its tokens, and is taught by them."""
    score_loss_coefficient: float = 1.0


@POLICIES.register("sparse")
class SparsePolicy(TokenPolicy):
    """Keeps the ``keep_ratio`` of tokens that the decoder is likely to look at."""

    options_class = SparseOptions
    options: SparseOptions
    needs_proposals = True
    needs_samples = True
    has_keep_ratio = True
    takes_budget = True

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        c = config
        assert c.num_labels is not None
        self.scorer = TokenScorer(c.d_model)
        self.layers = Layers(encoder_layers(c))
        supervised = c.encoder_layers - 1 if self.options.auxiliary_losses else 0
        self.class_heads = Layers(ClassHead(c.d_model, c.num_labels) for _ in range(supervised))
        self.box_heads = Layers(BoxHead(c.d_model) for _ in range(supervised))
        self.criterion = objective_of(c, eps=1e-12).criterion
        self.quirks = c.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        check_keep_ratio(read_options(cls.options_class, config.policy_options, "policy_options"))

    def plan(self, tokens: Tokens, budget: Budget | None = None) -> TokenPlan:
        """Score all tokens of all levels at once, and keep the best."""
        return self.select(self.score(tokens), tokens.geometry, budget)

    @property
    def nested(self) -> bool:
        return True

    def keeps(self) -> tuple[float, tuple[float, ...]]:
        return self.options.keep_ratio, (1.0,) * len(self.layers)

    def score(self, tokens: Tokens) -> Tensor:
        assert self.proposals is not None
        counted = None if self.quirks.padded_statistics else tokens.geometry.valid
        return self.proposals.score(lambda z: self.scorer(z, counted), tokens)

    def select(self, scores: Tensor, geometry: Geometry, budget: Budget | None) -> TokenPlan:
        if self.quirks.batch_fill and geometry.valid is not None:
            scores = torch.where(geometry.valid, scores, scores.min())
        return plan_tokens(
            scores,
            geometry,
            self.options.keep_ratio if budget is None else budget.share,
            (1.0,) * len(self.layers),
            batch_counts=self.quirks.batch_counts,
            batch_fill=self.quirks.batch_fill,
        )

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        assert plan is not None
        geometry, memory, after = tokens.geometry, tokens.content, []
        kept, positions, references = (
            gather_rows(each, plan.indices)
            for each in (tokens.content, tokens.positions, tokens.references())
        )
        original, rows = kept, plan.rows(0)
        for layer in self.layers:
            value = layer.deformable_attention.project(memory, geometry.valid)
            kept = layer(kept, positions, references, value, geometry.shapes)
            valid = kept if rows is None else torch.where(rows[..., None], kept, original)
            memory = scatter_rows(memory, plan.indices, valid)
            after.append(kept)
        return Memory(memory, geometry, plan, after[:-1] if self.training else [])

    def losses(
        self, memory: Memory, decoded: DecoderOutput, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The scores against where the decoder looks; the objects found by the layers' own heads."""
        plan, geometry = memory.plan, memory.geometry
        assert plan is not None
        losses = {"loss_token_scores": self._score_loss(plan, geometry, decoded)}
        count = num_boxes(labels, memory.tokens.device)
        rows = None if self.quirks.batch_counts else plan.rows(0)
        anchors = gather_rows(Proposals.anchors(geometry)[0], plan.indices)
        targets, sets = Targets.of(labels), []
        for j, (tokens, class_head, box_head) in enumerate(
            zip(memory.layers, self.class_heads, self.box_heads, strict=False)
        ):
            delta = box_head(tokens)
            boxes = (delta + anchors.to(delta.dtype)).sigmoid()
            sets.append(Predictions(class_head(tokens), boxes, targets, f"_enc_{j}", rows))
        return losses | self.criterion.matched(sets, count)

    def _score_loss(self, plan: TokenPlan, geometry: Geometry, decoded: DecoderOutput) -> Tensor:
        scores = plan.scores
        assert scores is not None
        skip = decoded.num_denoising
        samples = [(locations[:, skip:], weights[:, skip:]) for locations, weights in decoded.samples]
        received = decoder_attention_map(samples, geometry, decoded.valid, self.quirks.shifted_attention_map)
        if geometry.valid is not None:
            received = torch.where(geometry.valid, received, received.min() - 1)
        best = descending(received, plan.counts[0])
        rows = plan.rows(0)
        wanted = torch.ones_like(best, dtype=scores.dtype) if rows is None else rows.to(scores.dtype)
        target = torch.zeros_like(scores).scatter(1, best, wanted)
        loss = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
        if geometry.valid is not None and not self.quirks.padded_foreground_loss:
            valid = geometry.valid.to(loss.dtype)
            per_image = (loss * valid).sum(1) / valid.sum(1)
        else:
            per_image = loss.mean(1)
        return self.options.score_loss_coefficient * mean_of_images(per_image)

"""Objective: every part of a training step's loss, already weighted (spec 1.12, 1.9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from focus_detr.losses.criterion import Labels, SetCriterion, Weights, num_boxes
from focus_detr.losses.foreground import foreground_loss, foreground_targets
from focus_detr.losses.matcher import HungarianMatcher

if TYPE_CHECKING:
    from focus_detr.configuration import FocusDetrConfig
    from focus_detr.models.geometry import Geometry
    from focus_detr.models.queries import DenoisingQueries, Queries


class Objective:
    """Losses of the proposals (``_enc``), of each decoder layer (``_0``, ...), of the denoising queries
    (``_dn``) and of the foreground scores.

    Args:
        strides: input pixels a cell of each level.
    """

    def __init__(self, config: FocusDetrConfig, strides: Sequence[int]) -> None:
        self.config, self.strides = config, strides
        c = config
        self.criterion = SetCriterion(
            HungarianMatcher(c.class_cost, c.bbox_cost, c.giou_cost, c.focal_alpha, c.focal_gamma),
            Weights(c.class_loss_coefficient, c.bbox_loss_coefficient, c.giou_loss_coefficient),
            c.focal_alpha,
            c.focal_gamma,
        )

    def __call__(
        self,
        logits: list[Tensor],
        boxes: list[Tensor],
        queries: Queries,
        denoising: DenoisingQueries | None,
        foreground: tuple[Tensor, Geometry] | None,
        labels: Labels,
    ) -> dict[str, Tensor]:
        """All parts, whose sum is the loss.

        Args:
            logits, boxes: (B,D+Q,k) and (B,D+Q,4) boxes_cxcywh of each layer, denoising queries first.
            foreground: scores (B,N) and their tokens' geometry, where the policy has scores.
        """
        criterion, valid = self.criterion, queries.valid
        count = num_boxes(labels, boxes[0].device)
        losses = criterion.matched(queries.class_logits, queries.proposal_boxes, labels, count, "_enc", valid)
        skip = 0 if denoising is None else denoising.content.shape[1]
        for j, (layer_logits, layer_boxes) in enumerate(zip(logits, boxes, strict=True)):
            suffix = "" if j == len(logits) - 1 else f"_{j}"
            losses |= criterion.matched(
                layer_logits[:, skip:], layer_boxes[:, skip:], labels, count, suffix, valid
            )
            if denoising is not None:
                losses |= criterion.denoised(
                    layer_logits[:, :skip],
                    layer_boxes[:, :skip],
                    labels,
                    count,
                    f"_dn{suffix}",
                    denoising.slots,
                    denoising.groups,
                )
        if foreground is not None:
            losses["loss_foreground"] = self._foreground(*foreground, labels)
        return losses

    def _foreground(self, scores: Tensor, geometry: Geometry, labels: Labels) -> Tensor:
        c, quirks = self.config, self.config.switches
        targets = foreground_targets(geometry, self.strides, c.foreground_ranges, labels)
        valid = None if quirks.padded_foreground_loss else geometry.valid
        loss = foreground_loss(scores, targets, valid, c.focal_alpha, c.focal_gamma, quirks.naive_focal)
        return c.foreground_loss_coefficient * loss

"""Objective: the losses of a host's predictions, already weighted (spec 1.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from focus_detr.losses.criterion import Labels, SetCriterion, Weights, num_boxes
from focus_detr.losses.matcher import HungarianMatcher
from focus_detr.losses.softmax import SoftmaxCriterion, SoftmaxMatcher
from focus_detr.structures.boxes import EPS

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig
    from focus_detr.structures.memory import DecoderOutput


class Objective:
    """Losses of the proposals (``_enc``), of each decoder layer (``_0``, ...; none for the last) and of the
    denoising queries (``_dn``).

    Args:
        eps: added to the areas that overlaps are divided by.
        no_object_weight: the last class is "no object", classes exclude each other, and a query that answers
            for nothing counts so much; None for focal losses of each class by itself.
    """

    def __init__(
        self, config: FocusDetrConfig, eps: float = EPS, no_object_weight: float | None = None
    ) -> None:
        c = config
        costs = (c.class_cost, c.bbox_cost, c.giou_cost, c.focal_alpha, c.focal_gamma, eps)
        weights = Weights(c.class_loss_coefficient, c.bbox_loss_coefficient, c.giou_loss_coefficient)
        if no_object_weight is None:
            self.criterion = SetCriterion(HungarianMatcher(*costs), weights, c.focal_alpha, c.focal_gamma)
        else:
            self.criterion = SoftmaxCriterion(SoftmaxMatcher(*costs), weights, no_object_weight)

    def __call__(self, decoded: DecoderOutput, labels: Labels) -> dict[str, Tensor]:
        """All parts, whose sum is the loss."""
        criterion, valid, denoising = self.criterion, decoded.valid, decoded.denoising
        count = num_boxes(labels, decoded.boxes[0].device)
        losses: dict[str, Tensor] = {}
        if decoded.queries is not None:
            proposed = decoded.queries
            counting = proposed.valid if proposed.proposing is None else proposed.proposing
            told = as_one_class(labels) if proposed.one_class else labels
            losses |= criterion.matched(
                proposed.class_logits, proposed.proposal_boxes, told, count, "_enc", counting
            )
        skip = decoded.num_denoising
        for j, (logits, boxes) in enumerate(zip(decoded.logits, decoded.boxes, strict=True)):
            suffix = "" if j == len(decoded.logits) - 1 else f"_{j}"
            losses |= criterion.matched(logits[:, skip:], boxes[:, skip:], labels, count, suffix, valid)
            if denoising is not None:
                slots, groups = denoising.slots, denoising.groups
                losses |= criterion.denoised(
                    logits[:, :skip], boxes[:, :skip], labels, count, f"_dn{suffix}", slots, groups
                )
        return losses


def as_one_class(labels: Labels) -> Labels:
    """The same objects, all of class 0."""
    return [{**label, "class_labels": torch.zeros_like(label["class_labels"])} for label in labels]

"""Objective: the losses of a host's predictions, already weighted (spec 1.12)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from focus_detr.losses.criterion import SetCriterion, Weights, num_boxes
from focus_detr.losses.matcher import CLASS_EPS, HungarianMatcher
from focus_detr.losses.quality import MatchabilityCriterion, VarifocalCriterion
from focus_detr.losses.softmax import SoftmaxCriterion, SoftmaxMatcher
from focus_detr.losses.targets import (
    Joint,
    Labels,
    Matches,
    Predictions,
    Targets,
    denoising_matches,
    repeated_matches,
)
from focus_detr.losses.whole_step import mean_of_processes
from focus_detr.structures.boxes import EPS

if TYPE_CHECKING:
    from focus_detr.structures.memory import DecoderOutput
    from focus_detr.structures.queries import Queries

_ANSWERING = 0.5  # overlap from which one of several proposals answers for an object

CLASS_LOSSES: dict[str, type[SetCriterion]] = {
    "focal": SetCriterion,
    "varifocal": VarifocalCriterion,
    "matchability": MatchabilityCriterion,
}


class Objective:
    """Losses of the proposals (``_enc``), of each decoder layer (``_0``, ...; none for the last) and of the
    denoising queries (``_dn``).

    Args:
        costs: what the parts of a match cost; weights: what the parts of the loss count.
        alpha, gamma: of the focal loss, and of its cost.
        eps: added to the areas that overlaps are divided by.
        class_eps: added to probabilities in the focal cost's logarithms.
        class_loss: of `CLASS_LOSSES`, of hosts that score each class by itself.
        proposals_repeat: several proposals may answer for one object (`repeated_matches`), of hosts that
            settle it later.
        least_overlap: matches that overlap less teach no box (see `SetCriterion`).
        no_object_weight: the last class is "no object", classes exclude each other, and a query that answers
            for nothing counts so much; None for focal losses of each class by itself.
    """

    def __init__(
        self,
        costs: Weights,
        weights: Weights,
        alpha: float = 0.25,
        gamma: float = 2.0,
        eps: float = EPS,
        no_object_weight: float | None = None,
        class_eps: float = CLASS_EPS,
        class_loss: str = "focal",
        least_overlap: float = 0.0,
        proposals_repeat: bool = False,
    ) -> None:
        self.proposals_repeat = proposals_repeat
        matching = (costs.classes, costs.bbox, costs.giou, alpha, gamma, eps, class_eps)
        self.criterion: SetCriterion
        if no_object_weight is None:
            kind = CLASS_LOSSES[class_loss]
            self.criterion = kind(HungarianMatcher(*matching), weights, alpha, gamma, least_overlap)
        else:
            self.criterion = SoftmaxCriterion(SoftmaxMatcher(*matching), weights, no_object_weight)

    def __call__(self, decoded: DecoderOutput, labels: Labels) -> dict[str, Tensor]:
        """All parts, whose sum is the loss."""
        criterion, denoising, device = self.criterion, decoded.denoising, decoded.boxes[0].device
        count, targets = num_boxes(labels, device), Targets.of(labels)
        skip = decoded.num_denoising
        sets = [] if decoded.queries is None else [_proposed(decoded.queries, targets)]
        repeating = len(sets) if self.proposals_repeat else 0
        noised: dict[str, Predictions] = {}  # by the suffix of their layer
        for j, (logits, boxes) in enumerate(zip(decoded.logits, decoded.boxes, strict=True)):
            suffix = "" if j == len(decoded.logits) - 1 else f"_{j}"
            own, others = slice(skip, None), slice(0, skip)
            said = Predictions(logits[:, own], boxes[:, own], targets, suffix, decoded.valid)
            sets.append(replace(said, joint=_joint(decoded, j, own)))
            if denoising is not None:
                said = Predictions(logits[:, others], boxes[:, others], targets, f"_dn{suffix}")
                noised[suffix] = replace(said, joint=_joint(decoded, j, others))

        tables = criterion.matcher(sets)
        if denoising is not None:
            tables.append(denoising_matches(targets.counts, denoising.slots, denoising.groups))
        matches = Matches.on_device(tables, device)

        losses: dict[str, Tensor] = {}
        # What is behind the sets' own matches is the denoising queries'.
        answered = list(zip(sets, matches, strict=False))
        for each, one in answered[:repeating]:
            many = repeated_matches(each, one, _ANSWERING)
            answers = torch.full((), float(len(many.image)), device=device)
            losses |= criterion.losses(each, many, mean_of_processes(answers))
        for each, found in answered[repeating:]:
            losses |= criterion.losses(each, found, count)
            if denoising is not None and each.suffix in noised:
                losses |= criterion.losses(noised[each.suffix], matches[-1], count * denoising.groups)
        return losses

    def matches(self, decoded: DecoderOutput, labels: Labels) -> Matches:
        """Which query of the last layer answers for which object."""
        boxes, skip = decoded.boxes[-1], decoded.num_denoising
        own, targets = slice(skip, None), Targets.of(labels)
        last = Predictions(decoded.logits[-1][:, own], boxes[:, own], targets, "", decoded.valid)
        last = replace(last, joint=_joint(decoded, -1, own))
        return Matches.on_device(self.criterion.matcher([last]), boxes.device)[0]


def _joint(decoded: DecoderOutput, layer: int, which: slice) -> dict[str, Joint]:
    said = decoded.joint[layer] if decoded.joint else {}
    return {name: joint.of_queries(which) for name, joint in said.items()}


def _proposed(queries: Queries, targets: Targets) -> Predictions:
    counting = queries.valid if queries.proposing is None else queries.proposing
    wanted = targets.as_one_class() if queries.one_class else targets
    return Predictions(queries.class_logits, queries.proposal_boxes, wanted, "_enc", counting)

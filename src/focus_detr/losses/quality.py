"""Class losses that want a class to be as likely as its box fits, so that scores rank boxes by quality."""

# Shapes: B images, Q queries, k classes.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.losses.criterion import SetCriterion, ones_at
from focus_detr.losses.targets import Matches, Predictions
from focus_detr.structures.boxes import cxcywh_to_xyxy, intersection_over_union


class QualityCriterion(SetCriterion):
    """Losses of matched sets, in which the class of a match should have a probability that its overlap gives.

    Overlaps teach classes and are not taught by them.
    """

    power: float
    """The wanted probability is the overlap to this power."""

    def class_loss_of(self, each: Predictions, matches: Matches, count: Tensor) -> Tensor:
        image, query = matches.image, matches.query
        boxes = cxcywh_to_xyxy(each.boxes[image, query].detach())
        objects = cxcywh_to_xyxy(each.targets.boxes[image, matches.object].to(boxes.dtype))
        overlap = intersection_over_union(boxes, objects, self.matcher.eps)
        answers = (image, query, each.targets.classes[image, matches.object])
        truth, wanted = ones_at(answers, each.logits), torch.zeros_like(each.logits)
        wanted[answers] = (overlap**self.power).to(wanted.dtype)
        weight = self.weight(each.logits.detach().sigmoid(), truth, wanted)
        loss = weight * F.binary_cross_entropy_with_logits(each.logits, wanted, reduction="none")
        if each.valid is not None:
            loss = loss.masked_fill(~each.valid[..., None], 0.0)
        return loss.sum() / count

    def weight(self, probability: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """What each cross-entropy counts: of predicted ``probability`` (B,Q,k), whether it is a match's class
        (``truth``, 0 or 1), and the ``wanted`` probability."""
        raise NotImplementedError


class VarifocalCriterion(QualityCriterion):
    """A match counts its overlap, all else alpha p^gamma (VarifocalNet, eq. 2, in Salience-DETR's form)."""

    power = 1.0
    alpha_of_others, gamma_of_others = 0.75, 2.0

    def weight(self, probability: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        return self.alpha_of_others * probability**self.gamma_of_others * (1 - truth) + wanted


class MatchabilityCriterion(QualityCriterion):
    """Every match counts in full, however badly it fits, all else p^gamma (DEIM, eq. 5).

    Where queries are few, matches of small overlap are most of what there is to learn from, and the varifocal
    loss all but leaves them out.
    """

    power = 1.5

    def weight(self, probability: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        return probability**self.power * (1 - truth) + truth

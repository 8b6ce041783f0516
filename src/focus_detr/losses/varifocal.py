"""Varifocal loss: a class is as likely as its box fits (VarifocalNet, eq. 2, in Salience-DETR's form)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.losses.criterion import SetCriterion
from focus_detr.losses.targets import Matches, Predictions
from focus_detr.structures.boxes import cxcywh_to_xyxy, intersection_over_union

_ALPHA, _GAMMA = 0.75, 2.0  # of the classes that a query is not


class VarifocalCriterion(SetCriterion):
    """Losses of matched sets, in which the class of a match should have its overlap with the object.

    Where it is, the cross-entropy with the overlap u counts u; elsewhere, with 0, alpha p^gamma.
    """

    def class_loss_of(self, each: Predictions, matches: Matches, count: Tensor) -> Tensor:
        image, query = matches.image, matches.query
        boxes = cxcywh_to_xyxy(each.boxes[image, query].detach())
        wanted = cxcywh_to_xyxy(each.targets.boxes[image, matches.object].to(boxes.dtype))
        answers = (image, query, each.targets.classes[image, matches.object])
        truth, overlap = torch.zeros_like(each.logits), torch.zeros_like(each.logits)
        truth[answers] = 1
        overlap[answers] = intersection_over_union(boxes, wanted, self.matcher.eps).to(overlap.dtype)
        probability = each.logits.detach().sigmoid()
        weight = _ALPHA * probability**_GAMMA * (1 - truth) + overlap
        loss = weight * F.binary_cross_entropy_with_logits(each.logits, overlap, reduction="none")
        if each.valid is not None:
            loss = loss.masked_fill(~each.valid[..., None], 0.0)
        return loss.sum() / count

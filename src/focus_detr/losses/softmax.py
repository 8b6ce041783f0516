"""DETR's class loss and class cost: classes that exclude each other, the last of them "no object"."""

# Shapes: B images, Q queries, T objects, k classes.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.losses.criterion import SetCriterion, Weights
from focus_detr.losses.matcher import HungarianMatcher, of_classes
from focus_detr.losses.whole_step import mean_of_processes


class SoftmaxMatcher(HungarianMatcher):
    """The cost of a class is what its probability lacks to 1, but for a constant (DETR, eq. 1)."""

    def class_costs(self, logits: Tensor, classes: Tensor) -> Tensor:
        """(...,Q,T), of logits (...,Q,k+1) and classes (...,T)."""
        return -of_classes(logits.softmax(-1), classes)


class SoftmaxCriterion(SetCriterion):
    """Cross-entropy over the classes and "no object", which counts ``no_object_weight`` (DETR, eq. 2)."""

    def __init__(self, matcher: SoftmaxMatcher, weights: Weights, no_object_weight: float) -> None:
        super().__init__(matcher, weights)
        self.no_object_weight = no_object_weight

    def class_loss(
        self, logits: Tensor, answers: tuple[Tensor, Tensor, Tensor], count: Tensor, valid: Tensor | None
    ) -> Tensor:
        """The weighted mean over all queries of logits (B,Q,k+1); ``answers`` (image, query, class)."""
        image, query, classes = answers
        last = logits.shape[-1] - 1
        truth = torch.full(logits.shape[:2], last, device=logits.device)
        truth[image, query] = classes
        weight = torch.where(truth == last, self.no_object_weight, 1.0).to(logits.dtype)
        if valid is not None:
            weight = weight * valid
        loss = F.cross_entropy(logits.transpose(1, 2), truth, reduction="none")
        return (weight * loss).sum() / mean_of_processes(weight.sum(), least=1e-6)

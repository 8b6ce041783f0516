"""Criterion: the losses of one set of predictions, each already weighted (spec 1.12)."""

# Shapes: B images, Q queries, k classes.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focus_detr.losses.focal import sigmoid_focal_loss
from focus_detr.losses.matcher import HungarianMatcher
from focus_detr.losses.targets import Labels, Matches, Predictions
from focus_detr.losses.whole_step import mean_of_processes
from focus_detr.structures.boxes import cxcywh_to_xyxy, generalized_iou, intersection_over_union


@dataclass
class Weights:
    """How much each part of the loss counts."""

    classes: float = 1.0
    bbox: float = 5.0
    giou: float = 2.0


class SetCriterion:
    """Classification, box and overlap losses of matched sets of predictions.

    Args:
        least_overlap: matches whose box and object overlap less (IoU) have no box losses. One-to-one, objects
            that nothing found are matched with what is left, however far away; to models that detect already
            such boxes are noise, and larger than all else.
    """

    def __init__(
        self,
        matcher: HungarianMatcher,
        weights: Weights,
        alpha: float = 0.25,
        gamma: float = 2.0,
        least_overlap: float = 0.0,
    ) -> None:
        self.matcher, self.weights = matcher, weights
        self.alpha, self.gamma = alpha, gamma
        self.least_overlap = least_overlap

    def matched(self, sets: Sequence[Predictions], count: Tensor) -> dict[str, Tensor]:
        """Losses of sets of predictions, each object of which is matched to one.

        Args:
            count: what the sums are divided by, see `num_boxes`.
        """
        losses: dict[str, Tensor] = {}
        if sets:
            matches = Matches.on_device(self.matcher(sets), sets[0].boxes.device)
            for each, found in zip(sets, matches, strict=True):
                losses |= self.losses(each, found, count)
        return losses

    def losses(self, each: Predictions, matches: Matches, count: Tensor) -> dict[str, Tensor]:
        """Losses of one set whose matches are known; predictions that match nothing are to say so."""
        image, query, targets = matches.image, matches.query, each.targets
        # Rows of a flat table: the gradient of an index in two dimensions is one that a GPU is waited for.
        predicted = each.boxes.flatten(0, 1).index_select(0, image * each.boxes.shape[1] + query)
        wanted = targets.boxes[image, matches.object].to(predicted.dtype)
        distance = (predicted - wanted).abs()
        boxes, objects = cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted)
        apart = 1 - generalized_iou(boxes, objects, self.matcher.eps)
        if self.least_overlap:
            near = intersection_over_union(boxes.detach(), objects, self.matcher.eps) >= self.least_overlap
            distance, apart = near[:, None] * distance, near * apart
        parts = {
            f"loss_class{each.suffix}": self.weights.classes * self.class_loss_of(each, matches, count),
            f"loss_bbox{each.suffix}": self.weights.bbox * distance.sum() / count,
            f"loss_giou{each.suffix}": self.weights.giou * apart.sum() / count,
        }
        for joint in each.joint.values():
            more = joint.losses(each.boxes, matches, count)
            parts |= {f"{name}{each.suffix}": value for name, value in more.items()}
        return parts

    def class_loss_of(self, each: Predictions, matches: Matches, count: Tensor) -> Tensor:
        """Class loss of one set whose matches are known."""
        classes = each.targets.classes[matches.image, matches.object]
        return self.class_loss(each.logits, (matches.image, matches.query, classes), count, each.valid)

    def class_loss(
        self, logits: Tensor, answers: tuple[Tensor, Tensor, Tensor], count: Tensor, valid: Tensor | None
    ) -> Tensor:
        """Focal loss of logits (B,Q,k) that should be 1 for ``answers`` (image, query, class) alone."""
        truth = ones_at(answers, logits)
        focal = sigmoid_focal_loss(logits, truth, self.alpha, self.gamma)
        if valid is not None:
            focal = focal.masked_fill(~valid[..., None], 0.0)
        return focal.sum() / count


def ones_at(places: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """1 at ``places`` and 0 elsewhere, of the shape and type of ``like``."""
    # `zeros[places] = 1` would write a number of the host's, which a GPU is waited for.
    return torch.zeros_like(like).index_put_(places, like.new_ones(()))


def num_boxes(labels: Labels, device: torch.device) -> Tensor:
    """Objects of a step, at least 1, averaged over the processes."""
    count = sum(len(label["class_labels"]) for label in labels)
    return mean_of_processes(torch.full((), float(count), device=device))

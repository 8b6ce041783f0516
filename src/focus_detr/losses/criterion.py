"""Criterion: the losses of one set of predictions, each already weighted (spec 1.12)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from focus_detr.losses.focal import sigmoid_focal_loss
from focus_detr.losses.matcher import HungarianMatcher, Match
from focus_detr.structures.boxes import cxcywh_to_xyxy, generalized_iou

Labels = list[dict[str, Tensor]]


@dataclass
class Weights:
    """How much each part of the loss counts."""

    classes: float = 1.0
    bbox: float = 5.0
    giou: float = 2.0


class SetCriterion:
    """Classification, box and overlap losses of matched sets of predictions."""

    def __init__(
        self, matcher: HungarianMatcher, weights: Weights, alpha: float = 0.25, gamma: float = 2.0
    ) -> None:
        self.matcher, self.weights = matcher, weights
        self.alpha, self.gamma = alpha, gamma

    def matched(
        self,
        logits: Tensor,
        boxes: Tensor,
        labels: Labels,
        count: Tensor,
        suffix: str,
        valid: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of one set of predictions, each object matched to one.

        Args:
            logits: (B,Q,k); boxes: (B,Q,4) boxes_cxcywh; valid: (B,Q) queries that count, None for all.
            count: what the sums are divided by, see `num_boxes`.
        """
        matches = self.matcher(logits, boxes, labels, valid)
        return self._losses(logits, boxes, labels, matches, count, suffix, valid)

    def denoised(
        self,
        logits: Tensor,
        boxes: Tensor,
        labels: Labels,
        count: Tensor,
        suffix: str,
        slots: int,
        groups: int,
    ) -> dict[str, Tensor]:
        """Losses of the denoising queries (B,D,...): a positive slot answers for the object it came from."""
        device = boxes.device
        matches = []
        for label in labels:
            objects = torch.arange(len(label["class_labels"]), device=device)
            starts = torch.arange(groups, device=device)[:, None] * slots
            matches.append(((starts + objects).flatten(), objects.repeat(groups)))
        return self._losses(logits, boxes, labels, matches, count * groups, suffix, None)

    def _losses(
        self,
        logits: Tensor,
        boxes: Tensor,
        labels: Labels,
        matches: list[Match],
        count: Tensor,
        suffix: str,
        valid: Tensor | None,
    ) -> dict[str, Tensor]:
        image = torch.cat([torch.full_like(query, i) for i, (query, _) in enumerate(matches)])
        query = torch.cat([query for query, _ in matches])
        classes = torch.cat(
            [label["class_labels"][obj] for label, (_, obj) in zip(labels, matches, strict=True)]
        )
        target = torch.cat([label["boxes"][obj] for label, (_, obj) in zip(labels, matches, strict=True)])
        predicted, target = boxes[image, query], target.to(boxes.dtype)

        overlap = generalized_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target), self.matcher.eps)
        return {
            f"loss_class{suffix}": self.weights.classes
            * self.class_loss(logits, (image, query, classes), count, valid),
            f"loss_bbox{suffix}": self.weights.bbox * (predicted - target).abs().sum() / count,
            f"loss_giou{suffix}": self.weights.giou * (1 - overlap).sum() / count,
        }

    def class_loss(
        self, logits: Tensor, answers: tuple[Tensor, Tensor, Tensor], count: Tensor, valid: Tensor | None
    ) -> Tensor:
        """Focal loss of logits (B,Q,k) that should be 1 for ``answers`` (image, query, class) alone."""
        truth = torch.zeros_like(logits)
        truth[answers] = 1
        focal = sigmoid_focal_loss(logits, truth, self.alpha, self.gamma)
        if valid is not None:
            focal = focal.masked_fill(~valid[..., None], 0.0)
        return focal.sum() / count


def num_boxes(labels: Labels, device: torch.device) -> Tensor:
    """Objects of a step, at least 1, averaged over the processes."""
    return mean_of_processes(
        torch.tensor(float(sum(len(label["class_labels"]) for label in labels)), device=device)
    )


def mean_of_processes(count: Tensor, least: float = 1.0) -> Tensor:
    """A count that sums of a step are divided by, at least ``least``, averaged over the processes."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(count)
        # At least one object in all processes together, not in each: several then train as one does.
        return count.clamp(min=least) / dist.get_world_size()
    return count.clamp(min=least)

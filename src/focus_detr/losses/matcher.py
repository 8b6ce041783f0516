"""Matcher: which query answers for which object (Hungarian assignment, DETR section 3.1)."""

# Shapes: B images, Q queries, T objects, k classes, M matches of a batch.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from focus_detr.losses.targets import Predictions
from focus_detr.structures.boxes import EPS, cxcywh_to_xyxy, generalized_iou

_NEVER = 1e6  # cost of a query that stands for no token of its image
CLASS_EPS = 1e-8  # added to probabilities in logarithms


class HungarianMatcher:
    """Matches each object to one query at the least total cost (spec 1.12).

    Cost = class_cost * focal + bbox_cost * L1(cxcywh) - giou_cost * GIoU.
    """

    def __init__(
        self,
        class_cost: float,
        bbox_cost: float,
        giou_cost: float,
        alpha: float = 0.25,
        gamma: float = 2.0,
        eps: float = EPS,
        class_eps: float = CLASS_EPS,
    ) -> None:
        self.class_cost, self.bbox_cost, self.giou_cost = class_cost, bbox_cost, giou_cost
        self.alpha, self.gamma, self.eps, self.class_eps = alpha, gamma, eps, class_eps

    @torch.no_grad()
    def __call__(self, sets: Sequence[Predictions]) -> list[np.ndarray]:
        """For each set of predictions a table (3,M) int64 of image, query and object: min(Q,T) an image.

        Assignments are made on the host, which the costs of all sets reach in one copy: a device is waited
        for once a step.
        """
        tables = [self._costs(each) for each in sets]
        on_host = torch.cat([table.flatten() for table in tables]).cpu()
        parts = on_host.split([table.numel() for table in tables])
        return [
            assigned(part.view_as(table).double().numpy(), each.targets.counts)
            for each, table, part in zip(sets, tables, parts, strict=True)
        ]

    def _costs(self, each: Predictions) -> Tensor:
        # (B,Q,T+1): the costs, and last whether a query counts.
        cost = self.cost(each.logits, each.boxes, each.targets.classes, each.targets.boxes)
        for joint in each.joint.values():
            cost = cost + joint.costs(each.boxes).to(cost.dtype)
        counts = cost.new_ones(cost.shape[:2]) if each.valid is None else each.valid.to(cost.dtype)
        return torch.cat([cost, counts[..., None]], -1)

    def cost(self, logits: Tensor, boxes: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
        """(...,Q,T) of logits (...,Q,k), boxes (...,Q,4), classes (...,T), targets (...,T,4) boxes_cxcywh."""
        class_costs = self.class_costs(logits.float() if logits.dtype.itemsize < 4 else logits, classes)
        boxes, targets = boxes.to(class_costs.dtype), targets.to(class_costs.dtype)
        distance = torch.cdist(boxes, targets, p=1)
        corners, wanted = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(targets)
        overlap = generalized_iou(corners[..., :, None, :], wanted[..., None, :, :], self.eps)
        return self.class_cost * class_costs + self.bbox_cost * distance - self.giou_cost * overlap

    def class_costs(self, logits: Tensor, classes: Tensor) -> Tensor:
        """(...,Q,T): how little logits (...,Q,k) say each of classes (...,T); lower where they say it."""
        probability = of_classes(logits.sigmoid(), classes)
        absent = (1 - self.alpha) * probability**self.gamma * -(1 - probability + self.class_eps).log()
        present = self.alpha * (1 - probability) ** self.gamma * -(probability + self.class_eps).log()
        return present - absent


def of_classes(probability: Tensor, classes: Tensor) -> Tensor:
    """(...,Q,T): of probabilities (...,Q,k), those of classes (...,T)."""
    wanted = classes[..., None, :].expand(*probability.shape[:-1], classes.shape[-1])
    return probability.gather(-1, wanted)


def assigned(costs: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Costs (B,Q,T+1), of which the last says whether a query counts, to image, query and object (3,M)."""
    from scipy.optimize import linear_sum_assignment  # a quarter of a second, which detecting need not wait

    matches = []
    for image, (cost, count) in enumerate(zip(costs, counts, strict=True)):
        valid, finite = cost[:, -1] > 0, cost[:, :count]
        # Predictions that are not numbers are matched anyhow: the loss, not finite then, tells of them.
        finite = np.nan_to_num(finite, nan=_NEVER, posinf=_NEVER, neginf=-_NEVER)
        query, obj = linear_sum_assignment(np.where(valid[:, None], finite, _NEVER))
        counted = valid[query]  # objects beyond an image's own queries stay unmatched
        matches.append(np.stack([np.full_like(query, image), query, obj])[:, counted])
    return np.concatenate(matches, 1)

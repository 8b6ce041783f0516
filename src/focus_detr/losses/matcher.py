"""Matcher: which query answers for which object (Hungarian assignment, DETR section 3.1)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from focus_detr.structures.boxes import EPS, cxcywh_to_xyxy, generalized_iou

Match = tuple[Tensor, Tensor]  # queries and objects of one image, both (min(Q,T),) int64

_NEVER = 1e6  # cost of a query that stands for no token of its image


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
    ) -> None:
        self.class_cost, self.bbox_cost, self.giou_cost = class_cost, bbox_cost, giou_cost
        self.alpha, self.gamma, self.eps = alpha, gamma, eps

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, boxes: Tensor, labels: list[dict[str, Tensor]], valid: Tensor | None = None
    ) -> list[Match]:
        """logits (B,Q,k), boxes (B,Q,4) boxes_cxcywh, valid (B,Q) -> min(Q,T) pairs an image."""
        costs = []
        for i, label in enumerate(labels):
            cost = self.cost(logits[i], boxes[i], label["class_labels"], label["boxes"].to(boxes.dtype))
            if valid is not None:
                cost = torch.where(valid[i, :, None], cost, _NEVER)
            costs.append(cost)
        # One transfer for the batch: the assignment runs on the host.
        flat = torch.cat([cost.flatten() for cost in costs]).cpu() if costs else torch.empty(0)
        matches, start = [], 0
        for i, cost in enumerate(costs):
            block = flat[start : start + cost.numel()].reshape(cost.shape)
            start += cost.numel()
            # Predictions that are not numbers are matched anyhow: the loss, not finite then, tells of them.
            costs_of_image = block.double().nan_to_num(_NEVER, _NEVER, -_NEVER).numpy()
            rows, columns = linear_sum_assignment(costs_of_image)
            device = boxes.device
            match = torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)
            if valid is not None:  # objects beyond an image's own queries stay unmatched
                match = match[0][valid[i, match[0]]], match[1][valid[i, match[0]]]
            matches.append(match)
        return matches

    def cost(self, logits: Tensor, boxes: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
        """(Q,T) cost of one image: logits (Q,k), boxes (Q,4), classes (T,), targets (T,4) boxes_cxcywh."""
        unlike = self.unlikeness(logits.float() if logits.dtype.itemsize < 4 else logits, classes)
        boxes, targets = boxes.to(unlike.dtype), targets.to(unlike.dtype)
        distance = torch.cdist(boxes, targets, p=1)
        overlap = generalized_iou(cxcywh_to_xyxy(boxes)[:, None], cxcywh_to_xyxy(targets)[None], self.eps)
        return self.class_cost * unlike + self.bbox_cost * distance - self.giou_cost * overlap

    def unlikeness(self, logits: Tensor, classes: Tensor) -> Tensor:
        """(Q,T): how little logits (Q,k) say each of classes (T,); lower where they say it."""
        probability = logits.sigmoid()[:, classes]
        absent = (1 - self.alpha) * probability**self.gamma * -(1 - probability + 1e-8).log()
        present = self.alpha * (1 - probability) ** self.gamma * -(probability + 1e-8).log()
        return present - absent

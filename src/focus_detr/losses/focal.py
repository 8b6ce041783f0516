"""Sigmoid focal loss, in a form that stays finite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss of each element (RetinaNet, eq. 5): logits and 0/1 targets (...) -> (...)."""
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = probability + targets * (1 - 2 * probability)  # 1 - p_t
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return balance * cross_entropy * wrong**gamma


def naive_focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """The same through log(sigmoid), as released: infinite where the sigmoid saturates (spec 1.9)."""
    probability = logits.sigmoid()
    right = torch.where(targets > 0, probability, 1 - probability)
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return -balance * (1 - right) ** gamma * right.log()

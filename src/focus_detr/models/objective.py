"""A host's objective, from the numbers of its model's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from focus_detr.losses.criterion import Weights
from focus_detr.losses.objective import Objective
from focus_detr.structures.boxes import EPS

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


def objective_of(
    config: FocusDetrConfig, eps: float = EPS, no_object_weight: float | None = None, **others: Any
) -> Objective:
    """The objective that ``config`` says; the rest as in `Objective`."""
    c = config
    return Objective(
        Weights(c.class_cost, c.bbox_cost, c.giou_cost),
        Weights(c.class_loss_coefficient, c.bbox_loss_coefficient, c.giou_loss_coefficient),
        c.focal_alpha,
        c.focal_gamma,
        eps,
        no_object_weight,
        **others,
    )

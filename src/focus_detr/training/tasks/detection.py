"""Detection: the model's own loss on labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from focus_detr.training.tasks.base import TASKS, Step, Task


@TASKS.register("detection")
class DetectionTask(Task):
    """One forward pass; ``model(pixel_values, pixel_mask, labels)`` gives ``loss`` and ``loss_dict``."""

    def __call__(
        self, model: Callable[..., Any], batch: dict[str, Any], step: Step
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = model(**batch)
        return outputs["loss"], outputs["loss_dict"]

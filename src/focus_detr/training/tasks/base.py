"""The interface between the training loop and what it trains for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from focus_detr.models.registry import NoOptions, Registry, read_options

if TYPE_CHECKING:
    from accelerate import Accelerator

    from focus_detr.data import DetectionDataset


@dataclass(frozen=True)
class Step:
    """Where in the run a loss is asked for."""

    number: int
    """Optimiser steps done before this one."""
    total: int
    """Optimiser steps of the run."""
    generator: torch.Generator
    """On the CPU: random numbers that are the same in all processes, and again when the step is done again.

    What must be alike in all processes, such as which parameters take part, is drawn from it."""


class Task:
    """Computes the loss of a batch.

    The loop owns all else: data, autocast, gradients, the optimiser, evaluation, checkpoints. A task may call
    the model several times a step and hold other models, a teacher say, made in ``__init__`` and put on
    ``device``. All trainable parameters of the model must take part in the loss of every step.

    Args:
        model: the model that will be trained, before it is wrapped for several processes; to look at.
        device: where batches will be.
        options: of ``options_class``, from the recipe's ``task_options``.
    """

    options_class: ClassVar[type] = NoOptions

    def __init__(self, model: PreTrainedModel, device: torch.device, options: Any) -> None:
        self.device, self.options = device, options

    def __call__(
        self, model: Callable[..., Any], batch: dict[str, Any], step: Step
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and its named parts, which are logged.

        Args:
            model: to call; gradients of several processes meet in it.
            batch: ``pixel_values`` (B,3,H,W), ``pixel_mask`` (B,H,W) and ``labels``, a dict an image, on
                ``device``.
        """
        raise NotImplementedError

    def prepared(self, dataset: DetectionDataset, accelerator: Accelerator) -> DetectionDataset:
        """The data set as the task needs it, before pictures are changed; every process calls it."""
        return dataset

    def begin(self, average: nn.Module | None) -> None:
        """Told before the first step: the moving average of the weights, where the recipe keeps one."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the task; a teacher that does not change needs no keeping."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""


class TaskAround(Task):
    """Another task with something besides, which is all that a subclass has to say.

    Args:
        task: the other one; asked what is not this one's own.
    """

    def __init__(self, task: Task, model: PreTrainedModel, options: Any) -> None:
        super().__init__(model, task.device, options)
        self.task = task

    def prepared(self, dataset: DetectionDataset, accelerator: Accelerator) -> DetectionDataset:
        return self.task.prepared(dataset, accelerator)

    def begin(self, average: nn.Module | None) -> None:
        self.task.begin(average)

    def state_dict(self) -> dict[str, Any]:
        return self.task.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.task.load_state_dict(state)


TASKS: Registry[Task] = Registry("task")


def build_task(name: str, options: dict[str, Any], model: PreTrainedModel, device: torch.device) -> Task:
    """The task that a recipe names.

    Raises:
        FocusDetrError: it is not known, or has no such option.
    """
    task = TASKS[name]
    return task(model, device, read_options(task.options_class, options, "task_options"))

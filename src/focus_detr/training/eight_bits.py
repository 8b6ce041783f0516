"""EightBitsTask: another task, whose model is trained for 8 bits (`focus_detr.models.eight_bits`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from focus_detr.deploy.precision import coarse_layers
from focus_detr.errors import FocusDetrError
from focus_detr.models.eight_bits import round_layers, rounded_layers
from focus_detr.models.options import check_ranges
from focus_detr.models.registry import read_options
from focus_detr.training.sharding import sharding_plugin
from focus_detr.training.tasks.base import Step, Task, TaskAround


@dataclass(frozen=True)
class EightBitsOptions:
    """The recipe's ``eight_bits``."""

    on: bool = True
    momentum: float = 0.05
    """How much of a range is the newest batch's."""
    frozen_from: float = 0.5
    """Share of the run from which on ranges stay as they are, so that weights settle in them."""


def read_eight_bits(values: Mapping[str, Any]) -> EightBitsOptions | None:
    """The recipe's ``eight_bits``, or None where training is not for them.

    Raises:
        FocusDetrError: a key is unknown, or a value unusable.
    """
    options: EightBitsOptions = read_options(EightBitsOptions, dict(values), "eight_bits")
    check_ranges(options, "eight_bits", momentum=(0, 1), frozen_from=(0, 1))
    return options if values and options.on else None


class EightBitsTask(TaskAround):
    """The task, on a model whose backbone, feed-forward networks and attention values are rounded.

    Scores, selection, sampling places and boxes are not, nor the neck: what INT8 exports leave in float32
    (`focus_detr.export.quantization`). The ranges found stand in the model's configuration, where exports
    find them. Of several processes each watches its own batches, and the first one's are kept.

    Args:
        task: what is trained for.
        model: changed in place, before it is copied or wrapped.
    """

    def __init__(self, task: Task, options: EightBitsOptions, model: PreTrainedModel) -> None:
        super().__init__(task, model, options)
        if sharding_plugin() is not None:
            raise FocusDetrError("eight_bits: not with a model in shards (FSDP); train it whole")
        layers = {n: each for n, each in coarse_layers(model).items() if not n.startswith("neck.")}
        round_layers(layers, options.momentum, model.config.activation_ranges)
        self.watched = {name: layer.watched for name, layer in rounded_layers(model).items()}
        self.configurations: list[Any] = [model.config]

    def __call__(
        self, model: Callable[..., Any], batch: dict[str, Any], step: Step
    ) -> tuple[Tensor, dict[str, Tensor]]:
        watching = step.number < self.options.frozen_from * step.total
        for each in self.watched.values():
            each.watching = watching or each.low is None
        result = self.task(model, batch, step)
        if watching or step.number == 0:
            self._tell()
        return result

    def _tell(self) -> None:
        pairs = {
            name: torch.stack([each.low, each.high])
            for name, each in self.watched.items()
            if each.low is not None and each.high is not None
        }
        values = torch.stack(list(pairs.values())).tolist()  # at once: a GPU is waited for once
        for config in self.configurations:
            config.activation_ranges = dict(zip(pairs, values, strict=True))

    def begin(self, average: nn.Module | None) -> None:
        if average is not None:
            self.configurations.append(average.config)
        super().begin(average)

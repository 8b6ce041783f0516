"""The model that is trained and its moving average, as the processes of a run hold them together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from focus_detr.training.ema import build_ema
from focus_detr.training.recipe import Recipe
from focus_detr.training.sharding import (
    Skeleton,
    gathered,
    part_of,
    shard,
    sharding_plugin,
)
from focus_detr.training.start_share import StartShare


class DistributedModel:
    """A model whole in every process (DDP), or in shards (FSDP), with the average of its weights.

    Attributes:
        called: what a step calls; the gradients of all processes meet in it.
        trained: whose parameters the optimiser changes; in shards where the run is.
        average: `build_ema`'s, where the recipe asks for one; its ``module`` is held as ``trained`` is.
        channels_last: whether weights, and images to call it with, lie so in memory.
        start: the weights a run started from, where the recipe keeps a share of them.
        plain_class: of the model that was given; sharding changes that of ``trained``.
    """

    def __init__(
        self, model: PreTrainedModel, recipe: Recipe, total_steps: int, accelerator: Accelerator
    ) -> None:
        self.accelerator, self.plain_class = accelerator, type(model)
        _broadcast(model.to(accelerator.device))
        plugin = sharding_plugin()
        self.channels_last = plugin is None and wants_channels_last(recipe, accelerator.device)
        if self.channels_last:  # a shard is contiguous
            _to_channels_last(model)
        self.trained = model
        self.start = StartShare(model, recipe.start_share) if recipe.start_share else None
        self.average = None
        if recipe.ema_decay:
            self.average = build_ema(self.trained, recipe.ema_decay, recipe.ema_warmup * total_steps)
        self.skeleton = None
        if plugin is None:
            self.called: nn.Module = accelerator.prepare(self.trained)
            return
        self.skeleton = Skeleton(self.trained)
        self.called = self.trained
        shard(self.trained, plugin, accelerator)
        if self.average is not None:
            shard(self.average.module, plugin, accelerator)

    @contextmanager
    def gradients_kept(self, kept: bool) -> Iterator[None]:
        """Within it, a backward pass leaves gradients in each process where ``kept``, to be exchanged once a
        step, with those of the last pass."""
        if self.skeleton is not None:
            cast(FSDPModule, self.called).set_requires_gradient_sync(not kept)
            yield
        elif kept:
            with self.accelerator.no_sync(self.called):
                yield
        else:
            yield

    def update_average(self) -> None:
        if self.average is not None:
            self.average.update_parameters(self.trained)

    def is_finite(self) -> bool:
        """Whether all that this process holds of the weights is."""
        return all(bool(part_of(each).isfinite().all()) for each in self.trained.parameters())

    def whole(self, averaged: bool = True) -> PreTrainedModel:
        """The model with all its weights: a copy where this process holds but a shard, and all processes ask
        for it at the same time.

        Args:
            averaged: with the averaged weights, where there are any.
        """
        model = self.average.module if averaged and self.average is not None else self.trained
        if self.skeleton is None:
            return cast(PreTrainedModel, model)
        return self.skeleton.filled(gathered(model.state_dict())).to(self.accelerator.device)

    def finished(self) -> PreTrainedModel:
        """The model as people use it: `whole`, of averaged weights, with its share of the start."""
        return self.whole() if self.start is None else self.start.mixed(self.whole())


def wants_channels_last(recipe: Recipe, device: torch.device) -> bool:
    """What the recipe says, but where it is slow: in float32 on a GPU, where depthwise convolutions take many
    times as long."""
    return recipe.channels_last and not (device.type == "cuda" and recipe.precision == "fp32")


def _broadcast(model: PreTrainedModel) -> None:
    """Models made in each process may differ; that of the first counts, also for averages and shards."""
    if torch.distributed.is_initialized():
        for tensor in (*model.parameters(), *model.buffers()):
            torch.distributed.broadcast(tensor.data, 0)


def _to_channels_last(model: PreTrainedModel) -> None:
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

"""A moving average of the weights, which usually detects better than the weights themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from focus_detr.training.sharding import part_of

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_ema(model: nn.Module, decay: float, warmup_steps: float) -> AveragedModel:
    """A copy of ``model`` that follows it: ``average = d·average + (1 - d)·weights`` after each step.

    ``d = min(decay, 1 - 1/warmup_steps)·(1 - exp(-steps/warmup_steps))``: the random start is soon forgotten,
    and the average, which spans about ``1/(1 - d)`` steps, never more than ``warmup_steps``, so that at the
    end of a short run it is no weights of long ago. Buffers (batch statistics) are averaged too, and whole
    numbers copied.
    """
    span = max(1.0, warmup_steps)
    highest = min(decay, 1 - 1 / span)

    def average(averages: Tensors, weights: Tensors, num_averaged: Tensor | int) -> None:
        if not averages[0].is_floating_point():
            for mean, value in zip(averages, weights, strict=True):
                mean.copy_(value)
            return
        averages, weights = ([part_of(each) for each in tensors] for tensors in (averages, weights))
        d = highest * (1 - math.exp(-float(num_averaged) / span))
        get_ema_multi_avg_fn(d)(averages, weights, num_averaged)

    with torch.no_grad():
        ema = AveragedModel(model, multi_avg_fn=torch.no_grad()(average), use_buffers=True)
        ema.update_parameters(model)
    return ema.requires_grad_(False)

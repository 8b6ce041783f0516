"""AdamW's parameter groups and the learning-rate schedule (spec 1.14)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from focus_detr.training.recipe import Recipe

_OFFSETS = ("sampling_offsets", "query_point")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *_BATCH_NORMS)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters by (learning rate, weight decay).

    Norms do not decay; backbones and sampling offsets have learning rates of their own.
    """
    norm_parameters = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS) or "Norm" in type(module).__name__
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = 1.0
        if "backbone" in name:
            factor = recipe.backbone_learning_rate_factor
        elif any(part in _OFFSETS for part in name.split(".")):
            factor = recipe.offsets_learning_rate_factor
        decay = 0.0 if id(parameter) in norm_parameters else recipe.weight_decay
        groups.setdefault((recipe.learning_rate * factor, decay), []).append(parameter)
    # The highest rate first: it is the one that is logged.
    return [
        {"params": group, "lr": lr, "weight_decay": decay}
        for (lr, decay), group in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def build_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.AdamW:
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameter_groups(model, recipe), betas=recipe.betas, fused=fused)


def learning_rate_factor(recipe: Recipe, total_steps: int, steps_per_epoch: float) -> Callable[[int], float]:
    """Function of the optimiser step (0 for the first) that every group's learning rate is multiplied by."""
    unit = 1.0 if recipe.max_steps else steps_per_epoch
    warmup = round(recipe.warmup * total_steps)
    drops = [round(drop * unit) for drop in recipe.lr_drops]

    def factor(step: int) -> float:
        scale = 1.0
        if recipe.schedule == "multistep":
            scale = 0.1 ** sum(step >= drop for drop in drops)
        elif recipe.schedule == "cosine":
            done = (step - warmup) / max(1, total_steps - warmup)
            wave = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
            scale = recipe.lr_final_factor + (1 - recipe.lr_final_factor) * wave
        if step < warmup:
            scale *= recipe.warmup_factor + (1 - recipe.warmup_factor) * step / warmup
        return scale

    return factor

"""AdamW's parameter groups and the learning-rate schedule (spec 1.14)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.training.recipe import Recipe

_OFFSETS = ("sampling_offsets", "query_point")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *_BATCH_NORMS)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters by (learning rate, weight decay).

    Norms do not decay; backbones, sampling offsets, and parts that the recipe names, have learning rates of
    their own.
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
        factor = _factor(name, recipe)
        decay = 0.0 if id(parameter) in norm_parameters else recipe.weight_decay
        groups.setdefault((recipe.learning_rate * factor, decay), []).append(parameter)
    # The highest rate first: it is the one that is logged.
    return [
        {"params": group, "lr": lr, "weight_decay": decay}
        for (lr, decay), group in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def _factor(name: str, recipe: Recipe) -> float:
    named = [prefix for prefix in recipe.learning_rate_factors if name.startswith(prefix)]
    if named:
        return recipe.learning_rate_factors[max(named, key=len)]
    if "backbone" in name:
        return recipe.backbone_learning_rate_factor
    if any(part in _OFFSETS for part in name.split(".")):
        return recipe.offsets_learning_rate_factor
    return 1.0


def freeze_unlearned(model: nn.Module, recipe: Recipe) -> None:
    """No gradient for the parameters whose factor of the learning rate is 0.

    Raises:
        FocusDetrError: the recipe names a part that the model has not, or leaves nothing to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in recipe.learning_rate_factors:
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({name.rsplit(".", 1)[0] for name in names})
            raise FocusDetrError(
                f"learning_rate_factors: no parameter's name begins with {prefix!r}"
                f"{did_you_mean(prefix, parts) or '; they begin with ' + ', '.join(_roots(names))}"
            )
    for name, parameter in model.named_parameters():
        if _factor(name, recipe) == 0:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise FocusDetrError("learning_rate_factors: all of them are 0, and nothing is left to train")


def _roots(names: list[str]) -> list[str]:
    return sorted({name.split(".")[0] for name in names})


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

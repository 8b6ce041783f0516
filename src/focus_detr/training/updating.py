"""What a step does with gradients: scaled for fp16, clipped, applied, and the learning rate moved on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from focus_detr.training.optimization import build_optimizer, learning_rate_factor
from focus_detr.training.recipe import Recipe
from focus_detr.training.saving import Stateful
from focus_detr.training.sharding import together

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Updater:
    """The optimiser of a model, with the precision its losses are computed in.

    Attributes:
        parts: file of a checkpoint -> what it holds the state of.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, total_steps: int, device: torch.device) -> None:
        self.model, self.recipe, self.device = model, recipe, device
        self.optimizer = build_optimizer(model, recipe, device)
        factor = learning_rate_factor(recipe, total_steps, total_steps / (recipe.epochs or 1))
        self.schedule = LambdaLR(self.optimizer, factor)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.parts: dict[str, Stateful] = {"optimizer.pt": self.optimizer, "scheduler.pt": self.schedule}
        if self.scaler.is_enabled():
            self.parts["scaler.pt"] = self.scaler

    @property
    def learning_rate(self) -> float:
        """Of the next step: the highest of all parameters."""
        return float(self.schedule.get_last_lr()[0])

    def autocast(self) -> torch.autocast:
        dtype = _AUTOCAST.get(self.recipe.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clip(self) -> tuple[Tensor, Tensor]:
        """Clip the gradients; their norm before, over all processes, and whether it is one to go on with.

        fp16's loss scaling overflows now and then and skips the step; elsewhere that ruins the weights.
        """
        self.scaler.unscale_(self.optimizer)
        limit = self.recipe.clip_gradient or math.inf
        norm = together(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        return norm, norm.isfinite() | self.scaler.is_enabled()

    def update(self) -> None:
        """Change the weights by the gradients, and forget those."""
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # else it skipped the step
            self.schedule.step()
        self.optimizer.zero_grad()

"""Matrix products and convolutions in half precision; everything that decides by order or place in full."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from focus_detr.deploy.fusion import FusedConv2d, replace_modules
from focus_detr.models.attention import Attention, DeformableAttention, FeedForward


class HalfPrecision(nn.Module):
    """A module whose weights and inputs are of ``dtype``; its output is, too, and sums promote it again."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: Any) -> Tensor:
        return self.module(*(self._narrow(each) for each in inputs))

    def _narrow(self, value: Any) -> Any:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(self.dtype) if floating else value


class _FullOutput(HalfPrecision):
    """As above, but the output is float32: what follows is a norm."""

    def forward(self, *inputs: Any) -> Tensor:
        return super().forward(*inputs).float()


def coarse_layers(model: nn.Module) -> dict[str, nn.Module]:
    """By name, the layers of a detector that may be coarse and hold most of its work: convolutions of the
    backbone and the neck, feed-forward networks, values and outputs of deformable attention."""
    products = (FusedConv2d, nn.Conv2d, nn.Linear)
    found: dict[str, nn.Module] = {}
    for name, part in model.named_modules():
        if name.startswith(("backbone.", "neck.")) and isinstance(part, products):
            found[name] = part
        elif isinstance(part, FeedForward):
            found |= {f"{name}.{n}": each for n, each in part.named_modules() if isinstance(each, products)}
        elif isinstance(part, DeformableAttention):
            found |= {f"{name}.value_proj": part.value_proj, f"{name}.output_proj": part.output_proj}
    return found


def to_half_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert, in place, what may be coarse in a detector: its backbone, its neck and the bulk of its layers.

    These stay float32: norms, sampling offsets and weights (coordinates and softmax), the foreground scorer,
    the proposals, the heads and the residual stream of tokens and queries.
    """
    backbone = model.get_submodule("backbone")
    replace_modules(backbone, (FusedConv2d, nn.Conv2d, nn.Linear), lambda each: HalfPrecision(each, dtype))
    replace_modules(
        model.get_submodule("neck"), (FusedConv2d, nn.Conv2d), lambda each: _FullOutput(each, dtype)
    )
    for part in list(model.modules()):
        if isinstance(part, FeedForward):
            replace_modules(part, (nn.Linear,), lambda each: HalfPrecision(each, dtype))
        elif isinstance(part, DeformableAttention):
            # Declared Linear; the stand-in is called like one.
            part.value_proj = HalfPrecision(part.value_proj, dtype)  # type: ignore[assignment]
            part.output_proj = HalfPrecision(part.output_proj, dtype)  # type: ignore[assignment]
    for part in list(model.modules()):
        if not isinstance(part, HalfPrecision):
            for name, child in part.named_children():
                if isinstance(child, Attention):
                    setattr(part, name, HalfPrecision(child, dtype))

"""Eight bits in training: weights and inputs of the coarse layers are rounded as INT8 rounds them.

Gradients pass through the rounding (straight-through; Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). Weights have a scale for each output
channel, inputs one range for each layer, which is watched. State dicts are those of the model as it was.
"""

# Shapes: C output channels.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from focus_detr.errors import FocusDetrError

LEVELS = 255
"""Steps of an input's range: unsigned, of 8 bits."""
LARGEST = 64
"""Of weights, which are symmetric: a sign that a folded norm turns round changes nothing. They have 7 bits:
processors without VNNI add two products in 16, where those of 8 overflow and files answer otherwise."""
SMALLEST = 1e-8
"""Of a scale."""

Range = tuple[float, float]


class WatchedRange:
    """The range of a layer's inputs: a moving mean of the least and the largest value of each batch.

    Copies of a model, as the moving average of its weights, share it.
    """

    def __init__(self, momentum: float, known: Range | None = None) -> None:
        self.momentum = momentum
        self.watching = True
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        if known is not None:
            self.low, self.high = torch.tensor(known[0]), torch.tensor(known[1])

    def __deepcopy__(self, _: Any) -> WatchedRange:
        return self

    def watch(self, values: Tensor) -> None:
        """Take in the inputs of a step."""
        low, high = values.detach().float().aminmax()
        low, high = low.clamp(max=0), high.clamp(min=0)
        if self.low is None or self.high is None:
            self.low, self.high = low, high
            return
        self.low = self.low.to(low.device).lerp(low, self.momentum)
        self.high = self.high.to(high.device).lerp(high, self.momentum)

    def rounded(self, values: Tensor) -> Tensor:
        """Inputs as they are in 8 bits; as they are where none has been seen."""
        if self.low is None or self.high is None:
            return values
        scale = ((self.high - self.low) / LEVELS).clamp(min=SMALLEST).to(values.device)
        zero = (-self.low.to(values.device) / scale).round().clamp(0, LEVELS).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, LEVELS)

    def known(self) -> Range | None:
        """As numbers; None where none has been seen."""
        return None if self.low is None or self.high is None else (float(self.low), float(self.high))


class InEightBits(nn.Module):
    """What a convolution or a linear layer becomes, in place, while it is trained for 8 bits."""

    watched: WatchedRange

    @property
    def weight(self) -> Tensor:
        """As it is in 8 bits; what is trained and saved is the parameter of this name."""
        weight = self._parameters["weight"]
        assert weight is not None
        scale = weight_scale(weight.detach())
        zero = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST, LARGEST)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.watched.watching:
            self.watched.watch(x)
        return super().forward(self.watched.rounded(x))


def weight_scale(weight: Tensor) -> Tensor:
    """(C,) the step of each output channel of a weight (C,...)."""
    return (weight.flatten(1).abs().amax(1).float() / LARGEST).clamp(min=SMALLEST)


def round_layers(layers: Mapping[str, nn.Module], momentum: float, known: Mapping[str, Any]) -> None:
    """Make layers, by name, those that compute in 8 bits, in place; ``known`` are ranges to begin with.

    Raises:
        FocusDetrError: there is none.
    """
    if not layers:
        raise FocusDetrError("eight_bits: this model has no layer that could compute in 8 bits")
    kinds: dict[type, type] = {}
    for name, layer in layers.items():
        kind = type(layer)
        if kind not in kinds:
            kinds[kind] = type(f"{kind.__name__}InEightBits", (InEightBits, kind), {})
        layer.__class__ = kinds[kind]
        assert isinstance(layer, InEightBits)
        layer.watched = WatchedRange(momentum, tuple(known[name]) if name in known else None)


def rounded_layers(model: nn.Module) -> dict[str, InEightBits]:
    """Those that `round_layers` made, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, InEightBits)}

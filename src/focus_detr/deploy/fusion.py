"""Convolution, frozen batch norm, activation and residual sum as one convolution, for inference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.resnet.modeling_resnet import ResNetBasicLayer, ResNetBottleNeckLayer

from focus_detr.deploy.recent import Recent
from focus_detr.models.backbones.efficientnet_lite import InvertedResidual, SameConv2d, pad_same
from focus_detr.models.backbones.frozen_batch_norm import FrozenBatchNorm2d
from focus_detr.models.backbones.yolox import Stem

# oneDNN's names and numbers of the activations that it computes while the result is still in registers.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}

_LAYOUTS = 2  # of each convolution's weights that are kept: landscape and portrait


def fold_batch_norm(convolution: nn.Conv2d, norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight (C',C/groups,k,k) and bias (C') of the convolution that does both; folded in float64."""
    weight, scale = convolution.weight.double(), norm.weight.double()
    scale = scale * (norm.running_var.double() + norm.eps).rsqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    dtype = convolution.weight.dtype
    return (weight * scale[:, None, None, None]).to(dtype), shift.to(dtype)


class FusedConv2d(nn.Module):
    """act(conv(x) + b), or act(conv(x) + b + residual).

    On CPUs oneDNN computes it in one pass, with its weights laid out once. Where it cannot (another device or
    type, a graph being traced), it is a convolution followed by sums in place.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: FrozenBatchNorm2d | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        # Of models trained for 8 bits: what exports quantize its input by.
        self.input_range = getattr(convolution, "input_range", None)
        weight, bias = convolution.weight, convolution.bias
        if norm is not None:
            weight, bias = fold_batch_norm(convolution, norm)
        self.same = isinstance(convolution, SameConv2d)
        self.stride, self.padding = list(convolution.stride), list(map(int, convolution.padding))
        self.dilation, self.groups = list(convolution.dilation), convolution.groups
        self.activation = nn.Identity() if activation is None else _in_place(activation)
        self.register_buffer("weight", weight.detach().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", None if bias is None else bias.detach())
        # Few layouts at a time: sizes mostly repeat, and layouts hardly differ between them.
        self._packed: Recent[Tensor] = Recent(_LAYOUTS)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (B,C,H,W), residual (B,C',H',W') -> (B,C',H',W')."""
        geometry = self.padding, self.stride, self.dilation, self.groups
        if not _has_fused_convolution(x, self.weight) or type(self.activation) not in _ACTIVATIONS:
            weight, padding = self.weight, self.padding
            if self.same and self.stride[0] == 2 and torch.compiler.is_exporting():
                x, padding = pad_same(x, weight.shape[-1]), [0, 0]  # no runtime expects a padded weight
            else:
                weight = self._weight_for(x)
            x = F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)
            return self.activation(x if residual is None else x.add_(residual))
        size = list(x.shape)
        pack: Any = torch.ops.mkldnn._reorder_convolution_weight
        packed = self._packed.get(tuple(size), lambda: pack(self._weight_for(x), *geometry, size))
        fused: Any = torch.ops.mkldnn._convolution_pointwise
        name, scalars = _ACTIVATIONS[type(self.activation)]
        if residual is None:
            return fused(x, packed, self.bias, *geometry, name, scalars, "")
        # After a sum oneDNN rectifies, and knows no other activation.
        unary = "relu" if name == "relu" else None
        x = fused.binary(x, residual, packed, self.bias, *geometry, "add", 1.0, unary, [], "")
        return x if unary else self.activation(x)

    def _weight_for(self, x: Tensor) -> Tensor:
        # SAME padding has one pixel less left of and above even sizes: a kernel with a zero there moves it.
        # A padded copy of x would cost more than the convolution.
        if not self.same or self.stride[0] != 2:
            return self.weight
        even_height, even_width = x.shape[-2] % 2 == 0, x.shape[-1] % 2 == 0
        return F.pad(self.weight, (int(even_width), 0, int(even_height), 0))

    def _apply(self, fn: Any, recurse: bool = True) -> FusedConv2d:
        self._packed.clear()  # made of weights that are about to move
        super()._apply(fn, recurse)
        return self


class FusedResNetLayer(nn.Module):
    """A residual layer of ResNet whose last convolution adds the shortcut and rectifies."""

    def __init__(self, layer: ResNetBasicLayer | ResNetBottleNeckLayer) -> None:
        super().__init__()
        self.shortcut = layer.shortcut
        self.body = nn.Sequential(*list(layer.layer)[:-1])
        self.last = cast(FusedConv2d, layer.layer[-1].convolution)
        self.last.activation = _in_place(layer.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x), self.shortcut(x))


class FusedInvertedResidual(nn.Module):
    """A block of EfficientNet-Lite whose last convolution adds its input."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        self.body = nn.Sequential(block.expand, block.depthwise)
        self.last, self.residual = cast(FusedConv2d, block.project.convolution), block.residual

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x), x if self.residual else None)


def fuse_convolutions(module: nn.Module) -> nn.Module:
    """Make every convolution below ``module`` a `FusedConv2d`, in place, with what follows it in it.

    What follows is known in the layers of transformers' ResNet and of our EfficientNet-Lite and YOLOX: a
    ``convolution``, its ``normalization``, mostly an ``activation``, and in some the sum with a shortcut. So
    it is in a sequence of a convolution and an activation.
    """
    for child in module.modules():
        if isinstance(child, nn.Sequential):
            _fuse_sequence(child)
        convolution, norm = getattr(child, "convolution", None), getattr(child, "normalization", None)
        if isinstance(norm, FrozenBatchNorm2d) and _is_plain(convolution):
            activation = getattr(child, "activation", nn.Identity())
            fused = FusedConv2d(convolution, norm, activation)
            child.convolution, child.normalization, child.activation = fused, nn.Identity(), nn.Identity()
        elif isinstance(child, Stem):
            child.convolution = FusedConv2d(cast(nn.Conv2d, child.convolution), activation=child.activation)
            child.activation = nn.Identity()
    replace_modules(module, (ResNetBasicLayer, ResNetBottleNeckLayer), _if_folded(FusedResNetLayer))
    replace_modules(module, (InvertedResidual,), _if_folded(FusedInvertedResidual))
    replace_modules(module, (nn.Conv2d,), lambda each: FusedConv2d(each) if _is_plain(each) else each)
    return module


def _fuse_sequence(sequence: nn.Sequential) -> None:
    for i, (layer, following) in enumerate(pairwise(list(sequence))):
        if _is_plain(layer) and type(following) in _ACTIVATIONS:
            sequence[i], sequence[i + 1] = FusedConv2d(layer, activation=following), nn.Identity()


def replace_modules(
    module: nn.Module, kinds: tuple[type[nn.Module], ...], make: Callable[[Any], nn.Module]
) -> None:
    """Put what ``make`` makes of it in place of every module of ``kinds`` below ``module``."""
    for name, child in module.named_children():
        if isinstance(child, kinds):
            setattr(module, name, make(child))
        else:
            replace_modules(child, kinds, make)


def _if_folded(fused: Callable[[Any], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    # Only where every batch norm of a layer was folded.
    def make(layer: nn.Module) -> nn.Module:
        normed = any(isinstance(part, FrozenBatchNorm2d) for part in layer.modules())
        return layer if normed else fused(layer)

    return make


def _is_plain(module: Any) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _in_place(activation: nn.Module) -> nn.Module:
    # transformers has activations of its own, some of them subclasses of torch's.
    if isinstance(activation, nn.ReLU6):
        return nn.ReLU6(inplace=True)
    if isinstance(activation, nn.SiLU):
        return nn.SiLU(inplace=True)
    return nn.ReLU(inplace=True) if isinstance(activation, nn.ReLU) else activation


def computes_natively(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the processor multiplies matrices of ``dtype``, rather than emulating it."""
    if device.type == "cuda":
        return dtype != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return dtype == torch.float32
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def _has_fused_convolution(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False  # compilers fuse and lay out by themselves
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and not torch.is_grad_enabled()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and computes_natively(x.dtype, x.device)
    )

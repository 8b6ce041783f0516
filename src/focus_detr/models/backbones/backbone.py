"""Backbone: image to feature maps, through any transformers ``AutoBackbone``.

Batch norms are frozen and parameters that could never receive a gradient are removed, so that small
batches and distributed training behave.
"""

# Shapes: B images, L feature maps, H W height and width, C channels; _l of a feature map.

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.configuration_utils import PreTrainedConfig

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.catalogue import (
    BACKBONES,
    Family,
    as_backbone_config,
    backbone_config,
    own_network,
)
from focus_detr.models.backbones.finer import with_finer_map
from focus_detr.models.backbones.frozen_batch_norm import freeze_batch_norms
from focus_detr.models.backbones.strides import measured_strides

__all__ = ["Backbone", "backbone_config", "build_backbone"]


class Backbone(nn.Module):
    """Feature maps of a transformers backbone, fine to coarse.

    Attributes:
        model: the transformers backbone, or the bare network of one of ours; parameter names are the same.
        channels: channels C_l of each feature map.
        strides: input pixels a cell of each feature map.
        config: the transformers configuration of ``model``.
        frozen: names of the parts of ``model`` that take no gradient.
        finer: ``model`` gives one map more, the finest, which is none of these.
    """

    def __init__(
        self,
        model: nn.Module,
        channels: list[int],
        strides: list[int],
        frozen: list[str] | None = None,
        finer: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.config: PreTrainedConfig = cast(Any, model).config
        self.channels = channels
        self.strides = strides
        self.frozen = frozen or []
        self.finer = finer
        self.gradient_checkpointing = False  # set by transformers, with that of the layers
        self.freeze()

    def freeze(self) -> None:
        """No gradient for the frozen parts; to be called again when loading has replaced parameters."""
        for name in self.frozen:
            self.model.get_submodule(name).requires_grad_(False)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """Image batch (B,3,H,W) to L feature maps (B,C_l,H_l,W_l)."""
        return self.with_finest(pixel_values)[1]

    def with_finest(self, pixel_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The finest map that there is, and the L feature maps; it may be the first of them."""
        if pixel_values.device.type == "cpu" and not torch.compiler.is_exporting():
            # Depthwise convolutions run about twice as fast on CPUs when channels lie together.
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            # Computed again last of all, when the activations of everything after it are gone.
            maps = list(checkpoint(self._feature_maps, pixel_values, use_reentrant=False))
        else:
            maps = list(self._feature_maps(pixel_values))
        return maps[0], maps[1:] if self.finer else maps

    def _feature_maps(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return self.model(pixel_values).feature_maps


def build_backbone(
    config: PreTrainedConfig | dict[str, Any],
    *,
    freeze_stem: bool | None = None,
    freeze_stages: int = 0,
    train_norm_affine: bool | None = None,
    finer: bool = False,
    bare: bool = False,
) -> Backbone:
    """Build a backbone with random weights (Focus-DETR section 4: ResNet and Swin at strides 8, 16, 32).

    Args:
        config: a transformers backbone configuration or its dict (with ``model_type``).
        freeze_stem: no gradient for the stem. Default: as the family is usually fine-tuned (see the
            catalogue), frozen for convolutional backbones and trained for Swin.
        freeze_stages: no gradient for so many stages after the stem either; early stages cost most to train
            and change least.
        train_norm_affine: train the scale and shift of batch norms, whose statistics are always frozen.
            Default: as the family is usually fine-tuned, only for EfficientNet-Lite.
        finer: have a map at stride 4, too, where the configuration's begin further up (see `with_finest`).
        bare: of a backbone of ours, take the network alone, which is quick to import and cannot be saved by
            itself.

    Raises:
        FocusDetrError: the configuration is no backbone's, or freezing is asked of a family that the
            catalogue does not know.
    """
    config = as_backbone_config(config)
    own, config = config, with_finer_map(config) if finer else config
    more = config is not own
    family = BACKBONES.family(config.model_type)
    model = (own_network(config) if bare else None) or _transformers_backbone(config)

    if train_norm_affine is None:
        train_norm_affine = family is not None and family.train_norm_affine
    freeze_batch_norms(model, train_norm_affine)
    if config.model_type == "swin":
        _finish_swin(model)
    if freeze_stem is None:
        freeze_stem = family is not None and family.freeze_stem
    frozen = _frozen_parts(model, family, freeze_stem, freeze_stages)
    channels, strides = list(cast(Any, model).channels), measured_strides(config)
    return Backbone(model, channels[more:], strides[more:], frozen, more)


def _transformers_backbone(config: PreTrainedConfig) -> nn.Module:
    from transformers import AutoBackbone

    from focus_detr.models.backbones.own import register

    register()
    try:
        # Of one dtype with the rest of a model: a configuration remembers the one it was last loaded in.
        return AutoBackbone.from_config(config, dtype=torch.get_default_dtype())
    except ValueError as error:
        raise FocusDetrError(
            f"backbone_config of model_type {config.model_type!r} is no backbone: {error}"
        ) from error


def _frozen_parts(
    model: nn.Module, family: Family | None, freeze_stem: bool, freeze_stages: int
) -> list[str]:
    """Names of the submodules of ``model`` that take no gradient."""
    if not freeze_stem and not freeze_stages:
        return []
    if family is None:
        asked = "freeze_stem=True" if freeze_stem else f"freeze_stages={freeze_stages}"
        known = dict.fromkeys(BACKBONES[name].family.model_type for name in BACKBONES.names())
        raise FocusDetrError(
            f"{asked}: not known for {cast(Any, model).config.model_type!r}, only for {', '.join(known)}"
        )
    frozen = [family.stem] if freeze_stem else []
    if freeze_stages:
        stages = [
            f"{family.stages}.{name}" for name, _ in model.get_submodule(family.stages).named_children()
        ]
        if not 0 < freeze_stages <= len(stages):
            raise FocusDetrError(
                f"freeze_stages={freeze_stages}: {family.model_type!r} has 0 to {len(stages)} to freeze"
            )
        frozen += stages[:freeze_stages]
    return frozen


def _finish_swin(model: nn.Module) -> None:
    # Feature maps have norms of their own: this one's output is never used.
    model.get_submodule("swin").layernorm = nn.Identity()
    # transformers has stochastic depth on the attention branch alone. The MLP drops its output by a hook,
    # which a copy of the model keeps and which leaves class and parameter names as they are.
    for layer in model.modules():
        drop_path, mlp = getattr(layer, "drop_path", None), getattr(layer, "mlp", None)
        if isinstance(drop_path, nn.Module) and isinstance(mlp, nn.Module):
            mlp.add_module("drop_path", copy.deepcopy(drop_path))
            mlp.register_forward_hook(_drop_path)


def _drop_path(mlp: Any, inputs: Any, output: Tensor) -> Tensor:
    return mlp.drop_path(output)

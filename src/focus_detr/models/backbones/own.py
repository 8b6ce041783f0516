"""The package's own backbones as transformers backbones: saved, loaded and found by its Auto classes.

Apart from the networks, since transformers' model class takes longer to import than torch does, and pictures
are looked at without it.
"""

# Shapes: B images, C channels, H W height and width; _l of a feature map.

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from transformers import AutoBackbone, AutoConfig, PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from focus_detr.models.backbones.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from focus_detr.models.backbones.network import BackboneNetwork
from focus_detr.models.backbones.yolox import Yolox, YoloxConfig


class _OfTransformers(BackboneNetwork, BackboneMixin, PreTrainedModel):
    """Stands behind the network: `begin` is then transformers' and everything else the network's."""

    main_input_name = "pixel_values"
    has_attentions = False

    def begin(self, config: Any) -> None:
        BackboneMixin.__init__(self, config)


class EfficientNetLiteBackbone(EfficientNetLite, _OfTransformers):
    """`EfficientNetLite` in transformers."""

    config_class = EfficientNetLiteConfig
    config: EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.post_init()

    # transformers' mixin declares options for hidden states and attentions, which this backbone has not.
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BackboneOutput:  # type: ignore[override]
        """``pixel_values`` (B,3,H,W) to a map (B,C_l,H_l,W_l) for each output."""
        return BackboneOutput(feature_maps=cast(Any, super().forward(pixel_values).feature_maps))


class YoloxBackbone(Yolox, _OfTransformers):
    """`Yolox` in transformers."""

    config_class = YoloxConfig
    config: YoloxConfig
    base_model_prefix = "yolox"

    def __init__(self, config: YoloxConfig) -> None:
        super().__init__(config)
        self.post_init()

    # As above.
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BackboneOutput:  # type: ignore[override]
        """``pixel_values`` (B,3,H,W) to a map (B,C_l,H_l,W_l) for each output."""
        return BackboneOutput(feature_maps=cast(Any, super().forward(pixel_values).feature_maps))


def register() -> None:
    """Make ``AutoConfig`` and ``AutoBackbone`` know them; calling it again changes nothing."""
    for form in (EfficientNetLiteBackbone, YoloxBackbone):
        AutoConfig.register(form.config_class.model_type, form.config_class, exist_ok=True)
        AutoBackbone.register(form.config_class, form, exist_ok=True)

"""Models by name: the released ones, and small ones for CPUs and edge boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError, did_you_mean

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig

# The sine encoding differs between the released schedules and is not stored in their checkpoints (spec 1.2).
_SHORT_SCHEDULE = {"position_temperature": 10000.0, "position_offset": -0.5}
_LONG_SCHEDULE = {"position_temperature": 20.0, "position_offset": 0.0}
_DENSE = {"token_policy": "dense"}
# Lite-DETR's H3L1-(2+1)x3: in each of 3 blocks three coarse levels are updated twice, the fine one once.
_INTERLEAVED = {"token_policy": "interleaved", "policy_options": {"high_levels": 3, "blocks": 3}}
_SMALL_INTERLEAVED = {"token_policy": "interleaved", "policy_options": {"high_levels": 3, "blocks": 1}}
_SALIENCE = {"token_policy": "salience", "foreground_loss_coefficient": 2.0}
# Sparse DETR's published keep ratio for 46.0 AP, with which its parity is tested.
_SPARSE = {"token_policy": "sparse", "keep_ratio": 0.3}
_DEFORMABLE = {
    "host": "deformable-detr",
    "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024,
    "dropout": 0.1,
    "num_queries": 300,
    "num_detections": 100,
    "denoising_queries": 0,
    "class_loss_coefficient": 2.0,
}
_REFINED = {"host_options": {"box_refinement": True}}
_TWO_STAGE = {"host_options": {"two_stage": True, "box_refinement": True}}
# Proposals that learn classes: Focus-DETR ranks tokens by them, and Sparse DETR has them.
_BY_CLASS = {"host_options": {"two_stage": True, "box_refinement": True, "class_proposals": True}}
_SPARSE_HOST = {"host_options": {**_BY_CLASS["host_options"], "content_from_memory": True}}
_SMALL = {
    "d_model": 128,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "cascade": [1.0, 0.6, 0.2],  # mean keep ratio 0.3, as the paper's
    "num_queries": 300,
    "num_detections": 300,
    **_LONG_SCHEDULE,
}
# For edge boxes: nothing finer than a stride of 16, where four fifths of a small model's tokens would be.
_NANO = {
    **_SMALL,
    "num_levels": 3,
    "backbone_outputs": 2,
    "foreground_ranges": [128.0, 256.0],
    "d_model": 64,
    "attention_heads": 4,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "keep_ratio": 0.3,
    "cascade": [1.0],
    "num_queries": 100,
    "num_detections": 100,
    "num_fine_tokens": 50,
}
_DETR = {
    "host": "detr",
    "token_policy": "full-attention",
    "num_levels": 1,
    "dropout": 0.1,
    "num_queries": 100,
    "num_detections": 100,
    "denoising_queries": 0,
    "class_cost": 1.0,
    "position_temperature": 10000.0,
    "position_offset": 0.0,
}
_POLL_AND_POOL = {"token_policy": "poll-and-pool", "keep_ratio": 1 / 3}
_SMALL_DETR = {**_SMALL, **_DETR, "dropout": 0.0}
_DN = {
    "host": "dn-deformable-detr",
    "num_queries": 300,
    "label_noise": 0.2,
    "box_noise": 0.4,
}
_SMALL_DEFORMABLE = {**_DEFORMABLE, **_SMALL, "dropout": 0.0}
# Those that grew from DETR's code train its ResNet from the second stage on; detrex trains all but the stem.
_SECOND_STAGE_ON = {"freeze_stages": 1}
_FULL_DEFORMABLE = {**_DEFORMABLE, **_SHORT_SCHEDULE, **_SECOND_STAGE_ON}
_FULL_DETR = {**_DETR, **_SECOND_STAGE_ON}

_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "focus-detr-r50": ("resnet50", _SHORT_SCHEDULE),
    "focus-detr-r50-24ep": ("resnet50", _LONG_SCHEDULE),
    "focus-detr-r50-36ep": ("resnet50", _LONG_SCHEDULE),
    "focus-detr-r101": ("resnet101", _SHORT_SCHEDULE),
    "focus-detr-r101-24ep": ("resnet101", _LONG_SCHEDULE),
    "focus-detr-r101-36ep": ("resnet101", _LONG_SCHEDULE),
    "focus-detr-swin-tiny": ("swin-tiny-224", _SHORT_SCHEDULE),
    "focus-detr-swin-small": ("swin-small-224", _SHORT_SCHEDULE),
    "focus-detr-swin-base-384": ("swin-base-384", _SHORT_SCHEDULE),
    "focus-detr-swin-large-384": ("swin-large-384", _SHORT_SCHEDULE),
    "focus-detr-nano": ("efficientnet-lite0", _NANO),
    "focus-detr-lite0": ("efficientnet-lite0", _SMALL),
    "focus-detr-lite1": ("efficientnet-lite1", _SMALL),
    "focus-detr-lite2": ("efficientnet-lite2", _SMALL),
    "dino-r50": ("resnet50", {**_SHORT_SCHEDULE, **_DENSE}),
    "dino-r50-24ep": ("resnet50", {**_LONG_SCHEDULE, **_DENSE}),
    "dino-r101": ("resnet101", {**_SHORT_SCHEDULE, **_DENSE}),
    "dino-swin-tiny": ("swin-tiny-224", {**_SHORT_SCHEDULE, **_DENSE}),
    "dino-swin-large-384": ("swin-large-384", {**_SHORT_SCHEDULE, **_DENSE}),
    "dino-lite0": ("efficientnet-lite0", {**_SMALL, **_DENSE}),
    "dino-lite1": ("efficientnet-lite1", {**_SMALL, **_DENSE}),
    "dino-lite2": ("efficientnet-lite2", {**_SMALL, **_DENSE}),
    "lite-dino-r50": ("resnet50", {**_LONG_SCHEDULE, **_INTERLEAVED}),
    "lite-dino-lite0": ("efficientnet-lite0", {**_SMALL, **_SMALL_INTERLEAVED}),
    "salience-dino-r50": ("resnet50", {**_SHORT_SCHEDULE, **_SALIENCE}),
    "salience-dino-lite0": ("efficientnet-lite0", {**_SMALL, **_SALIENCE}),
    "sparse-dino-r50": ("resnet50", {**_SHORT_SCHEDULE, **_SPARSE}),
    "sparse-dino-lite0": ("efficientnet-lite0", {**_SMALL, **_SPARSE}),
    "deformable-detr-r50": ("resnet50", {**_FULL_DEFORMABLE, **_DENSE}),
    "deformable-detr-refine-r50": ("resnet50", {**_FULL_DEFORMABLE, **_DENSE, **_REFINED}),
    "deformable-detr-two-stage-r50": ("resnet50", {**_FULL_DEFORMABLE, **_DENSE, **_TWO_STAGE}),
    "deformable-lite0": ("efficientnet-lite0", {**_SMALL_DEFORMABLE, **_DENSE, **_TWO_STAGE}),
    "sparse-deformable-r50": ("resnet50", {**_FULL_DEFORMABLE, **_SPARSE, **_SPARSE_HOST}),
    "sparse-deformable-lite0": ("efficientnet-lite0", {**_SMALL_DEFORMABLE, **_SPARSE, **_SPARSE_HOST}),
    "focus-deformable-r50": ("resnet50", {**_FULL_DEFORMABLE, **_BY_CLASS}),
    "focus-deformable-lite0": ("efficientnet-lite0", {**_SMALL_DEFORMABLE, **_BY_CLASS}),
    "lite-deformable-r50": ("resnet50", {**_FULL_DEFORMABLE, **_INTERLEAVED, **_TWO_STAGE}),
    "lite-deformable-lite0": (
        "efficientnet-lite0",
        {**_SMALL_DEFORMABLE, **_SMALL_INTERLEAVED, **_TWO_STAGE},
    ),
    "salience-deformable-r50": ("resnet50", {**_FULL_DEFORMABLE, **_SALIENCE, **_BY_CLASS}),
    "salience-deformable-lite0": ("efficientnet-lite0", {**_SMALL_DEFORMABLE, **_SALIENCE, **_BY_CLASS}),
    "dn-deformable-detr-r50": ("resnet50", {**_SHORT_SCHEDULE, **_DN, **_DENSE}),
    "dn-deformable-lite0": ("efficientnet-lite0", {**_SMALL, **_DN, **_DENSE}),
    "focus-dn-deformable-r50": ("resnet50", {**_SHORT_SCHEDULE, **_DN}),
    "focus-dn-deformable-lite0": ("efficientnet-lite0", {**_SMALL, **_DN}),
    "sparse-dn-deformable-r50": ("resnet50", {**_SHORT_SCHEDULE, **_DN, **_SPARSE}),
    "sparse-dn-deformable-lite0": ("efficientnet-lite0", {**_SMALL, **_DN, **_SPARSE}),
    "lite-dn-deformable-r50": ("resnet50", {**_SHORT_SCHEDULE, **_DN, **_INTERLEAVED}),
    "lite-dn-deformable-lite0": ("efficientnet-lite0", {**_SMALL, **_DN, **_SMALL_INTERLEAVED}),
    "salience-dn-deformable-r50": ("resnet50", {**_SHORT_SCHEDULE, **_DN, **_SALIENCE}),
    "salience-dn-deformable-lite0": ("efficientnet-lite0", {**_SMALL, **_DN, **_SALIENCE}),
    "detr-r50": ("resnet50", _FULL_DETR),
    "detr-lite0": ("efficientnet-lite0", _SMALL_DETR),
    "pnp-detr-r50": ("resnet50", {**_FULL_DETR, **_POLL_AND_POOL}),
    "pnp-detr-lite0": ("efficientnet-lite0", {**_SMALL_DETR, **_POLL_AND_POOL}),
}


# The same by the pair of host and policy, as the others are named.
_ALIASES = {
    name.replace("focus-detr", "focus-dino"): name for name in _PRESETS if name.startswith("focus-detr")
}


def list_presets() -> list[str]:
    """The names that `preset` knows."""
    return [*_PRESETS, *_ALIASES]


def plain_name(name: str) -> str:
    """The name that an alias stands for; any other is its own."""
    return _ALIASES.get(name, name)


def preset_weights(name: str) -> str:
    """The backbone weight that the preset ``name`` starts from, by its name in the catalogue."""
    return _PRESETS[plain_name(name)][0]


def preset(name: str, **overrides: Any) -> FocusDetrConfig:
    """The configuration named ``name``, with 80 classes unless ``num_labels`` or ``id2label`` say otherwise.

    Raises:
        FocusDetrError: the name or an overridden field is not known.
    """
    known = list_presets()
    if name not in known:
        hint = did_you_mean(name, known)
        raise FocusDetrError(f"preset {name!r} is not known{hint}; known: {', '.join(known)}")
    from huggingface_hub.errors import StrictDataclassError

    from focus_detr.models.backbones.catalogue import backbone_config
    from focus_detr.models.configuration import FocusDetrConfig

    backbone, fields = _PRESETS[plain_name(name)]
    settings = {**fields, **overrides}
    # A model of one level has the coarsest; one of more than the backbone gives makes the others itself.
    outputs = min(3, settings.get("num_levels", 3))
    outputs = min(outputs, settings.pop("backbone_outputs", 3))
    settings.setdefault("backbone_config", backbone_config(backbone, outputs))
    if "id2label" not in settings:
        settings.setdefault("num_labels", 80)
    try:
        return FocusDetrConfig(**settings)
    except StrictDataclassError as error:
        raise FocusDetrError(f"preset {name!r}: {error}") from error

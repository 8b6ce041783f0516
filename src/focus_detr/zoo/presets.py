"""Models by name: those that were published, and small ones for CPUs and edge boxes.

A preset names its backbone, whose pretrained weight a new model starts from, and its recipe. Any other pair
of host and token policy, or another backbone, is said on top: ``preset("deformable-r50",
token_policy="salience")``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError, did_you_mean

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class Preset:
    """What a name stands for.

    Attributes:
        backbone: its entry in the catalogue, architecture and weight.
        recipe: how it is trained where no recipe is asked for.
        small: of the size for CPUs and a few hundred images; else of the published one.
        fields: what it has otherwise than its host, policy and size.
    """

    backbone: str
    recipe: str
    host: str = "dino"
    policy: str = "focus"
    small: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


# The sine encoding differs between the released schedules and is not stored in their checkpoints (spec 1.2).
_LONG_SCHEDULE = {"position_temperature": 20.0, "position_offset": 0.0}
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
# On YOLOX-nano's towers, whose predictions its proposals start from (scripts/start_from_yolox.py).
_YOLOX_NANO = {
    "num_levels": 3,
    "neck_norm": False,
    "foreground_ranges": [64.0, 128.0],
    "d_model": 96,
    "attention_heads": 4,
    "num_points": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 192,
    "decoder_ffn_dim": 192,
    "keep_ratio": 0.3,
    "cascade": [1.0],
    "num_queries": 300,
    "num_detections": 300,
    "num_fine_tokens": 50,
    # The selector alone starts from nothing: what it asks of the others' features should weigh little.
    "foreground_loss_coefficient": 0.02,
    "denoising_queries": 0,
    "host_options": {
        "content_from_memory": True,
        "boxes_from_cells": True,
        "precedence": True,
        "class_loss": "varifocal",
        "least_overlap": 0.4,
    },
}

_TWO_STAGE = {"two_stage": True, "box_refinement": True}
_HOSTS: dict[str, dict[str, Any]] = {
    "dino": {},
    "deformable-detr": {
        "host_options": _TWO_STAGE,
        "num_queries": 300,
        "denoising_queries": 0,
        "class_loss_coefficient": 2.0,
    },
    "dn-deformable-detr": {"num_queries": 300, "label_noise": 0.2, "box_noise": 0.4},
    "salience-detr": {},
    "detr": {
        "num_levels": 1,
        "num_queries": 100,
        "num_detections": 100,
        "denoising_queries": 0,
        "class_cost": 1.0,
        "position_temperature": 10000.0,
        "position_offset": 0.0,
    },
}
# At the published size. Those that grew from DETR's code train its ResNet from the second stage on; detrex
# trains all but the stem.
_LARGE_HOSTS: dict[str, dict[str, Any]] = {
    "deformable-detr": {
        "encoder_ffn_dim": 1024,
        "decoder_ffn_dim": 1024,
        "dropout": 0.1,
        "num_detections": 100,
        "freeze_stages": 1,
    },
    "detr": {"dropout": 0.1, "freeze_stages": 1},
    "salience-detr": {"freeze_stages": 1},
}
_POLICIES: dict[str, dict[str, Any]] = {
    "salience": {"foreground_loss_coefficient": 2.0},
    # Sparse DETR's published keep ratio for 46.0 AP, with which its parity is tested.
    "sparse": {"keep_ratio": 0.3},
    "poll-and-pool": {"keep_ratio": 1 / 3},
}
# Proposals that learn classes: Focus-DETR ranks tokens by them, and Sparse DETR has them.
_BY_CLASS = {**_TWO_STAGE, "class_proposals": True}
_PAIRS: dict[tuple[str, str], dict[str, Any]] = {
    ("deformable-detr", "focus"): {"host_options": _BY_CLASS},
    ("deformable-detr", "salience"): {"host_options": _BY_CLASS},
    ("deformable-detr", "sparse"): {"host_options": {**_BY_CLASS, "content_from_memory": True}},
}

_ONE_STAGE: dict[str, Any] = {"host_options": {}}
_REFINED = {"host_options": {"box_refinement": True}}
_DEFORMABLE = ("deformable-detr", "dense")
_DN = ("dn-deformable-detr", "dense")
_DETR = ("detr", "full-attention")

_PRESETS: dict[str, Preset] = {
    "focus-detr-r50": Preset("resnet50", "coco-12ep"),
    "focus-detr-r50-24ep": Preset("resnet50", "coco-24ep", fields=_LONG_SCHEDULE),
    "focus-detr-r50-36ep": Preset("resnet50", "coco-36ep", fields=_LONG_SCHEDULE),
    "focus-detr-r101": Preset("resnet101", "coco-12ep"),
    "focus-detr-r101-24ep": Preset("resnet101", "coco-24ep", fields=_LONG_SCHEDULE),
    "focus-detr-r101-36ep": Preset("resnet101", "coco-36ep-two-drops", fields=_LONG_SCHEDULE),
    "focus-detr-swin-tiny": Preset("swin-tiny-224", "coco-12ep"),
    "focus-detr-swin-base-384": Preset("swin-base-384", "coco-36ep-drop-30"),
    "focus-detr-swin-large-384": Preset("swin-large-384", "coco-36ep-drop-30"),
    "focus-detr-lite0": Preset("efficientnet-lite0", "small-model", small=True),
    "focus-detr-nano": Preset("efficientnet-lite0", "small-model", small=True, fields=_NANO),
    "focus-detr-yolox-nano": Preset("yolox-nano", "everyday", small=True, fields=_YOLOX_NANO),
    "dino-r50": Preset("resnet50", "coco-12ep", policy="dense"),
    "dino-r50-24ep": Preset("resnet50", "coco-24ep-all-images", policy="dense", fields=_LONG_SCHEDULE),
    "dino-swin-large-384": Preset("swin-large-384", "coco-36ep-drop-30", policy="dense"),
    "dino-lite0": Preset("efficientnet-lite0", "small-model", policy="dense", small=True),
    "lite-dino-r50": Preset("resnet50", "coco-36ep-drop-30", policy="interleaved", fields=_LONG_SCHEDULE),
    "salience-detr-r50": Preset("resnet50", "coco-12ep", "salience-detr", "salience"),
    "deformable-detr-r50": Preset("resnet50", "deformable-50ep", *_DEFORMABLE, fields=_ONE_STAGE),
    "deformable-detr-refine-r50": Preset("resnet50", "deformable-50ep", *_DEFORMABLE, fields=_REFINED),
    "deformable-r50": Preset("resnet50", "deformable-50ep", *_DEFORMABLE),
    "deformable-lite0": Preset("efficientnet-lite0", "small-data-deformable", *_DEFORMABLE, small=True),
    "dn-deformable-r50": Preset("resnet50", "dn-deformable-50ep", *_DN),
    "dn-deformable-lite0": Preset("efficientnet-lite0", "small-model", *_DN, small=True),
    "detr-r50": Preset("resnet50", "detr-300ep", *_DETR),
    "detr-lite0": Preset("efficientnet-lite0", "small-data", *_DETR, small=True),
}

# Names of versions before 0.2, which listed every pair: what to say instead. They go with version 0.3.
_FORMER: dict[str, tuple[str, dict[str, Any]]] = {
    "focus-detr-swin-small": ("focus-detr-swin-tiny", {"backbone": "swin-small-224"}),
    "focus-detr-lite1": ("focus-detr-lite0", {"backbone": "efficientnet-lite1"}),
    "focus-detr-lite2": ("focus-detr-lite0", {"backbone": "efficientnet-lite2"}),
    "dino-r101": ("dino-r50", {"backbone": "resnet101"}),
    "dino-swin-tiny": ("dino-r50", {"backbone": "swin-tiny-224"}),
    "dino-lite1": ("dino-lite0", {"backbone": "efficientnet-lite1"}),
    "dino-lite2": ("dino-lite0", {"backbone": "efficientnet-lite2"}),
    "deformable-detr-two-stage-r50": ("deformable-r50", {}),
    "dn-deformable-detr-r50": ("dn-deformable-r50", {}),
    "lite-dino-lite0": ("dino-lite0", {"token_policy": "interleaved"}),
    "pnp-detr-r50": ("detr-r50", {"token_policy": "poll-and-pool"}),
    "pnp-detr-lite0": ("detr-lite0", {"token_policy": "poll-and-pool"}),
    **{
        f"{word}-{base}": (base, {"token_policy": policy})
        for word, policy in {"salience": "salience", "sparse": "sparse"}.items()
        for base in ("dino-r50", "dino-lite0")
    },
    **{
        f"{word}-{base}": (base, {"token_policy": policy})
        for word, policy in {
            "focus": "focus",
            "sparse": "sparse",
            "lite": "interleaved",
            "salience": "salience",
        }.items()
        for base in ("deformable-r50", "deformable-lite0", "dn-deformable-r50", "dn-deformable-lite0")
    },
}
_FORMER |= {
    name.replace("focus-detr", "focus-dino"): _FORMER.get(name, (name, {}))
    for name in (*_PRESETS, *_FORMER)
    if name.startswith("focus-detr")
}


def list_presets() -> list[str]:
    """The names that `preset` knows."""
    return list(_PRESETS)


def is_preset(name: str) -> bool:
    """Whether `preset` knows this name, former names included."""
    return name in _PRESETS or name in _FORMER


def find_preset(name: str, **overrides: Any) -> tuple[Preset, dict[str, Any]]:
    """The preset named ``name`` and what is to be overridden; a former name says it by both, with a warning.

    Raises:
        FocusDetrError: the name is not known.
    """
    if name in _FORMER:
        new, said = _FORMER[name]
        rest = "".join(f", {key}={value!r}" for key, value in said.items())
        warnings.warn(
            f"the preset {name!r} is now said: preset({new!r}{rest}); on the command line --model {new}"
            + "".join(f" --set model.{key}={value}" for key, value in said.items()),
            FutureWarning,
            stacklevel=3,
        )
        return _PRESETS[new], {**said, **overrides}
    if name not in _PRESETS:
        hint = did_you_mean(name, _PRESETS)
        raise FocusDetrError(f"preset {name!r} is not known{hint}; known: {', '.join(_PRESETS)}")
    return _PRESETS[name], overrides


def preset_weights(name: str, **overrides: Any) -> str:
    """The backbone weight that the preset ``name`` starts from, by its name in the catalogue."""
    found, overrides = find_preset(name, **overrides)
    return overrides.get("backbone", found.backbone)


def preset_recipe(name: str) -> str:
    """The recipe by which the preset ``name`` is trained where none is asked for."""
    return find_preset(name)[0].recipe


def preset(name: str, **overrides: Any) -> FocusDetrConfig:
    """The configuration named ``name``, with 80 classes unless ``num_labels`` or ``id2label`` say otherwise.

    Args:
        overrides: fields of the configuration. ``host`` and ``token_policy`` bring with them what that pair
            needs; ``backbone`` names another entry of the catalogue (`list_backbones`).

    Raises:
        FocusDetrError: the name or an overridden field is not known.
    """
    found, overrides = find_preset(name, **overrides)
    from huggingface_hub.errors import StrictDataclassError

    from focus_detr.models.backbones.catalogue import BACKBONES, backbone_config
    from focus_detr.models.configuration import FocusDetrConfig
    from focus_detr.models.options import in_place
    from focus_detr.models.plugins import import_plugins

    settings = {**_fields(found, overrides), **overrides}
    import_plugins(settings.get("plugins", []))  # one may bring the backbone
    backbone = settings.pop("backbone", found.backbone)
    # A model of one level has the coarsest; one of more than the backbone gives makes the others itself.
    outputs = min(3, settings.get("num_levels", 3), settings.pop("backbone_outputs", 3))
    if "backbone_config" not in settings:
        outputs = min(outputs, len(BACKBONES[backbone].outputs))
        settings["backbone_config"] = backbone_config(backbone, outputs)
    if "id2label" not in settings:
        settings.setdefault("num_labels", 80)
    try:
        return FocusDetrConfig(**in_place(settings))
    except StrictDataclassError as error:
        raise FocusDetrError(f"preset {name!r}: {error}") from error


def _fields(found: Preset, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What size, host, policy and their pair bring, the more particular last."""
    host, policy = overrides.get("host", found.host), overrides.get("token_policy", found.policy)
    fields: dict[str, Any] = {"host": host, "token_policy": policy}
    fields |= _SMALL if found.small else {}
    fields |= _HOSTS.get(host, {})
    fields |= _LARGE_HOSTS.get(host, {}) if not found.small else {}
    fields |= _POLICIES.get(policy, {}) | _PAIRS.get((host, policy), {}) | dict(found.fields)
    if policy == "interleaved":
        # Lite-DETR's H3L1-(2+1)x3: in each of 3 blocks coarse levels are updated twice, the fine one once.
        layers = overrides.get("encoder_layers", fields.get("encoder_layers", 6))
        blocks = layers // 2 if isinstance(layers, int) and layers % 2 == 0 else 1
        fields["policy_options"] = {"high_levels": 3, "blocks": blocks}
    return fields

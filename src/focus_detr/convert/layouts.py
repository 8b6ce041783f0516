"""The layouts of checkpoints that are known, and how to tell them apart."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from focus_detr.convert import deformable, detr, detrex, dino, lite_dino, salience, transformers_deformable
from focus_detr.convert.rules import Rule
from focus_detr.errors import FocusDetrError
from focus_detr.models.configuration import Quirks


@dataclass(frozen=True)
class Layout:
    """A family of checkpoints: its names, and what its code does that its files do not say."""

    name: str
    rules: Callable[[dict[str, Tensor]], list[Rule]]
    token_policy: str
    temperature: float
    offset: float
    quirks: dict[str, bool]
    host: str = "dino"
    trains_first_stage: bool = True  # of a ResNet
    host_options: Callable[[dict[str, Tensor]], dict[str, Any]] = lambda state: {}
    policy_options: Callable[[dict[str, Tensor]], dict[str, Any]] = lambda state: {}
    # Options of the policy that no tensor shows, as in the release whose weights are best known.
    unsaid: dict[str, Any] = field(default_factory=dict)
    adapt: Callable[[dict[str, Tensor], int | None], tuple[dict[str, Tensor], list[str]]] = (
        lambda state, num_labels: (state, [])
    )
    fields: dict[str, Any] = field(default_factory=dict)
    # Of the configuration that some lay beside their weights.
    read_fields: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: {}
    read_class_names: Callable[[dict[str, Any]], list[str] | None] = lambda settings: None


def _quirks(*off: str) -> dict[str, bool]:
    return {name: name not in off for name in vars(Quirks.named("original"))}


_FOCUS = Layout("focus-detr (detrex)", detrex.rules, "focus", 10000.0, -0.5, _quirks())
_DETREX_DINO = Layout("dino (detrex)", detrex.rules, "dense", 10000.0, -0.5, _quirks("frozen_values"))
# Its evaluation masks nothing either, and it encodes boxes on the padded canvas, as Focus-DETR does.
_DETREX_DN = Layout(
    "dn-deformable-detr (detrex)",
    detrex.dn_deformable_rules,
    "dense",
    10000.0,
    -0.5,
    {"unmasked_evaluation": True, "padded_backbone": True, "canvas_query_position": True},
    host="dn-deformable-detr",
    fields={"label_noise": 0.2, "box_noise": 0.4},
)
_DINO = Layout(
    "dino (original)",
    dino.rules,
    "dense",
    20.0,
    0.0,
    _quirks("frozen_values", "unmasked_evaluation"),
    trains_first_stage=False,
    adapt=dino.adapt,
)
_LITE_DINO = replace(
    _DINO,
    name="lite-dino (original)",
    rules=lite_dino.rules,
    token_policy="interleaved",
    host_options=lite_dino.host_options,
    policy_options=lite_dino.policy_options,
    unsaid={"high_levels": 3},
)
_DEFORMABLE = Layout(
    "deformable-detr (original)",
    deformable.rules,
    "dense",
    10000.0,
    -0.5,
    {"padded_backbone": True, "padded_queries": True},
    host="deformable-detr",
    trains_first_stage=False,
    host_options=deformable.host_options,
    adapt=deformable.adapt,
    fields={"dropout": 0.1, "class_loss_coefficient": 2.0, "num_detections": 100, "denoising_queries": 0},
)

_DETREX_DEFORMABLE = replace(
    _DEFORMABLE,
    name="deformable-detr (detrex)",
    rules=detrex.deformable_rules,
    quirks=_DEFORMABLE.quirks | {"unmasked_evaluation": True},
    trains_first_stage=True,
    host_options=detrex.deformable_options,
    fields=_DEFORMABLE.fields | {"class_loss_coefficient": 1.0},
)
_TRANSFORMERS_DEFORMABLE = replace(
    _DEFORMABLE,
    name="deformable-detr (transformers)",
    rules=transformers_deformable.rules,
    trains_first_stage=True,
    host_options=transformers_deformable.host_options,
    adapt=transformers_deformable.adapt,
    fields=_DEFORMABLE.fields | {"class_loss_coefficient": 1.0, "class_cost": 1.0},
    read_fields=transformers_deformable.fields,
    read_class_names=transformers_deformable.class_names,
)

_SPARSE = replace(
    _DEFORMABLE,
    name="sparse-detr (original)",
    token_policy="sparse",
    quirks=_DEFORMABLE.quirks
    | dict.fromkeys(
        (
            "batch_counts",
            "batch_fill",
            "padded_statistics",
            "padded_foreground_loss",
            "shifted_attention_map",
        ),
        True,
    ),
    policy_options=deformable.policy_options,
    fields=_DEFORMABLE.fields | {"keep_ratio": 0.3},
)

_SALIENCE = Layout(
    "salience-detr (original)",
    salience.rules,
    "salience",
    10000.0,
    -0.5,
    _quirks("unmasked_evaluation", "naive_focal", "shifted_attention_map"),
    host="salience-detr",
    trains_first_stage=False,
    adapt=salience.adapt,
    fields={"foreground_loss_coefficient": 2.0},
)

_DETR = Layout(
    "detr (original)",
    detr.rules,
    "full-attention",
    10000.0,
    0.0,
    {"padded_backbone": True},
    host="detr",
    trains_first_stage=False,
    adapt=detr.adapt,
    fields={
        "dropout": 0.1,
        "class_cost": 1.0,
        "num_detections": 100,
        "denoising_queries": 0,
    },
)

_PNP = replace(
    _DETR,
    name="pnp-detr (original)",
    token_policy="poll-and-pool",
    quirks=_DETR.quirks | {"batch_counts": True},
    policy_options=detr.policy_options,
    fields=_DETR.fields | {"keep_ratio": 1 / 3},
)


def detect_layout(state: dict[str, Tensor], source: str) -> Layout:
    """The layout of a checkpoint's tensors.

    Raises:
        FocusDetrError: none that is known.
    """
    if dino.is_dino(state):
        return _LITE_DINO if lite_dino.is_lite(state) else _DINO
    if detrex.is_detrex(state):
        if detrex.is_dn_deformable(state):
            return _DETREX_DN
        if detrex.is_deformable(state):
            return _DETREX_DEFORMABLE
        return _FOCUS if detrex.is_focus(state) else _DETREX_DINO
    if deformable.is_deformable(state):
        return _SPARSE if deformable.is_sparse(state) else _DEFORMABLE
    if transformers_deformable.is_transformers_deformable(state):
        return _TRANSFORMERS_DEFORMABLE
    if salience.is_salience(state):
        return _SALIENCE
    if detr.is_detr(state):
        return _PNP if detr.is_pnp(state) else _DETR
    raise FocusDetrError(
        f"{source}: not a checkpoint of Focus-DETR or DN-Deformable-DETR (detrex), two-stage DINO (detrex, "
        "original), Deformable DETR (detrex, original, transformers), Sparse DETR, Lite-DETR on DINO, "
        "Salience-DETR, DETR or PnP-DETR (original); "
        f"its keys begin {', '.join(list(state)[:3])}"
    )

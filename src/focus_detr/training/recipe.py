"""A training recipe: every choice of a run in one strict dataclass, from YAML and saved with the weights."""

from __future__ import annotations

import copy
import dataclasses
import math
import types
import typing
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.plain_yaml import load_plain
from focus_detr.zoo.presets import is_preset, preset_recipe
from focus_detr.zoo.resolve import configuration_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FACTORS = (
    "backbone_learning_rate_factor",
    "offsets_learning_rate_factor",
    "lr_final_factor",
    "warmup_factor",
)
# Counts of steps until version 0.2, and the shares that took their place.
_SHARES = {"warmup_steps": "warmup", "ema_warmup_steps": "ema_warmup"}
# Channels of the published models, whose learning rates small ones hardly learn at.
_LARGE = 256
RECIPES = Path(__file__).parents[1] / "zoo" / "recipes"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults are Focus-DETR's 12-epoch schedule on COCO."""

    name: str = "custom"

    epochs: int | None = 12
    """Length of training; give this or ``max_steps``."""
    max_steps: int | None = None
    """Length in optimiser steps, instead of ``epochs``."""
    fitted_to: str | None = None
    """The budget of time that ``max_steps`` and ``eval_interval`` were fitted to; `train` writes it."""
    batch_size: int = 16
    """Images of an optimiser step, over all processes and accumulated micro-batches."""
    gradient_accumulation: int | Literal["auto"] = 1
    """Micro-batches of an optimiser step: divides the memory needed, not the batch. "auto" has the run
    find the fewest that memory holds, and keep their number."""
    eval_batch_size: int | None = None
    """Images a process evaluates at a time; null takes a micro-batch's, or 8 where that has more."""

    learning_rate: float = 1e-4
    backbone_learning_rate_factor: float = 0.1
    offsets_learning_rate_factor: float = 1.0
    """Of what says where deformable attention looks: sampling offsets, and learned points of queries."""
    learning_rate_factors: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factors of the learning rate by the beginnings of parameters' names: the longest that fits, before
    the two above, and 0 leaves parameters as they are: the selector alone is trained by
    ``{"": 0, "encoder.selector": 1}``."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    """Of all parameters but those of norms, which have none."""
    clip_gradient: float = 0.1
    """Greatest L2 norm of all gradients together; 0 switches clipping off."""
    schedule: Literal["multistep", "cosine", "constant"] = "multistep"
    lr_drops: tuple[float, ...] = (11,)
    """When "multistep" drops the rate to a tenth: in epochs, or in steps where ``max_steps`` is given."""
    lr_final_factor: float = 0.01
    """Where "cosine" ends, as a share of the learning rate."""
    warmup: float = 0.0
    """Share of the run over which the learning rate rises to its value."""
    warmup_factor: float = 0.001
    """Where the linear warm-up starts, as a share of the learning rate."""
    ema_decay: float = 0.0
    """Decay of the weights' moving average, which is then what is evaluated and saved; 0 switches it off."""
    ema_warmup: float = 0.05
    """Share of the run over which the decay grows (a time constant), and that the average spans at most."""
    start_share: float = 0.0
    """Share of the weights started from in those evaluated and saved, of a model that is trained on
    (`StartShare`); 0 keeps none."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast for GPUs; on CPUs depthwise convolutions train many times slower in bf16 than in fp32."""
    gradient_checkpointing: bool = False
    channels_last: bool = False
    """Memory layout of images and feature maps, where it makes convolutions faster: on CPUs, and in half
    precision."""
    threads: int | None = None
    """CPU threads of each process; None leaves torch's choice."""

    train_split: str | None = "train"
    """Several are joined by "+"; null where the data set has one split only."""
    eval_split: str | None = "val"
    """null trains without evaluating."""
    val_share: float | None = None
    """Share of the training split's images to hold back and evaluate on, where there is no split for it."""
    classes: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What classes of the data are learned as, as in {car: vehicle, truck: vehicle}; those not named are
    left out, their objects with them. Empty takes all as they are."""
    crowds: Literal["regions", "objects"] = "regions"
    """What annotations of COCO with ``iscrowd`` 1 are: regions of many objects, not learned, or objects."""
    shortest_edge: int = 800
    longest_edge: int = 1333
    """Images are resized, aspect ratio kept, for evaluation and use of the model; pixels."""
    edge_multiple: int = 1
    """Edges are rounded to multiples of it: of the coarsest stride, cells of all levels fit the image."""
    nms_threshold: float | None = None
    """Of boxes of one class that overlap by more (IoU), the trained model gives the best only.

    null keeps the model's own setting, which is at first to give all."""
    augmentation: str = "detr"
    """Preset of `focus_detr.data.build_transforms`."""
    augmentation_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    workers: int = 2
    """Processes that read images, of each training process; 0 reads in the training process itself."""
    skip_empty: bool = False
    """Leave out training images without objects, as the 12-epoch configurations of the release do."""

    eval_interval: int = 1
    """Epochs between evaluations; 0 evaluates at the end only."""
    checkpoint_steps: int | None = None
    """Optimiser steps between checkpoints, on top of one at each epoch's end."""
    log_steps: int = 50
    """Optimiser steps averaged into one row of losses."""
    patience: int | None = None
    """Stop after so many evaluations without a better AP; None never stops early."""
    seed: int = 0

    task: str = "detection"
    """What a step computes, of `focus_detr.training.tasks`."""
    task_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The task's own options."""
    teacher: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Whom the model learns from beside the labels, and what (`focus_detr.training.teachers`); empty for
    nobody."""
    eight_bits: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Training for INT8 (`focus_detr.training.eight_bits`), as in {on: true}; empty for none."""
    unlabelled: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Pictures without labels to learn from, too, and how (`focus_detr.training.teachers.unlabelled`)."""
    plugins: tuple[str, ...] = ()
    """Modules to import first, which register tasks."""

    backbone_weights: str | None = "default"
    """Where a new model's backbone starts: "default" is the weight that the preset names; another of
    `list_backbones`, or a folder or hub id of a transformers model of its architecture. null insists on
    random numbers, of which nothing is then frozen."""
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the model's configuration to override, such as ``num_queries``."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """From plain values, strictly.

        Raises:
            FocusDetrError: a key is unknown, or a value unusable.
        """
        hints = typing.get_type_hints(cls)
        checked = {}
        for key, value in values.items():
            if key in _SHARES:
                raise FocusDetrError(
                    f"{source}: {key}={value!r} is a share of the run now, so that short runs are no warm-up "
                    f"alone: write {_SHARES[key]}: 0.05 for a twentieth of the steps"
                )
            if key == "batch_size" and value == "auto":
                raise FocusDetrError(
                    f"{source}: batch_size='auto': what a step learns from is not a machine's to choose; "
                    "give a number, and gradient_accumulation=auto, which cuts that batch into as many "
                    "parts as memory asks for"
                )
            if key not in hints:
                hint = did_you_mean(key, hints) or f"; known: {', '.join(hints)}"
                raise FocusDetrError(f"{source}: unknown key {key!r}{hint}")
            checked[key] = _as_type(value, hints[key], f"{source}: {key}")
        recipe = cls(**checked)
        recipe._check(source)
        return recipe

    def replace(self, overrides: Mapping[str, Any] | None = None, source: str = "overrides") -> Recipe:
        """A copy with fields overridden; a given ``epochs`` replaces ``max_steps`` and the reverse.

        A key with a dot changes one entry of a mapping: ``{"model.token_policy": "salience"}``.
        """
        overrides = self._with_inner(dict(overrides or {}), source)
        for key, other in (("epochs", "max_steps"), ("max_steps", "epochs")):
            if overrides.get(key) is not None and overrides.get(other) is None:
                overrides[other] = None
            if overrides.get(key) is not None:
                overrides.setdefault("fitted_to", None)
        rescaled = self._rescaled_drops(overrides)
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return type(self).from_dict({**values, **rescaled, **overrides}, source)

    def _with_inner(self, overrides: dict[str, Any], source: str) -> dict[str, Any]:
        """Keys such as ``model.num_queries`` change one entry of a field that is a mapping."""
        for key in [key for key in overrides if "." in key]:
            name, *inner = key.split(".")
            changed = copy.deepcopy(overrides.get(name, getattr(self, name, None)))
            place = changed
            for part in inner[:-1]:
                place = place.setdefault(part, {}) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                raise FocusDetrError(f"{source}: {key}: {name!r} is no field that holds others by name")
            place[inner[-1]] = overrides.pop(key)
            overrides[name] = changed
        return overrides

    def _rescaled_drops(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Drops at the same shares of a run whose length alone is overridden."""
        length = overrides.get("epochs") or overrides.get("max_steps")
        if not isinstance(length, int) or isinstance(length, bool) or "lr_drops" in overrides:
            return {}
        return {"lr_drops": tuple(drop * length / self.length for drop in self.lr_drops)}

    @property
    def evaluated_together(self) -> int:
        """Images of a batch of evaluation."""
        return self.eval_batch_size or min(8, self.batch_size // self.micro_batches)

    @property
    def micro_batches(self) -> int:
        """Of an optimiser step; one where their number is still to be found."""
        return 1 if self.gradient_accumulation == "auto" else self.gradient_accumulation

    @property
    def image_size(self) -> dict[str, int]:
        """As image processors have it."""
        size = {"shortest_edge": self.shortest_edge, "longest_edge": self.longest_edge}
        return {**size, "multiple": self.edge_multiple} if self.edge_multiple > 1 else size

    @property
    def length(self) -> int:
        """Epochs, or steps where ``max_steps`` is given."""
        return self.max_steps or self.epochs or 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML and JSON hold them."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def _check(self, source: str) -> None:
        def refuse(key: str, why: str) -> typing.NoReturn:
            raise FocusDetrError(f"{source}: {key}={getattr(self, key)!r}: {why}")

        if (self.epochs is None) == (self.max_steps is None):
            refuse("epochs", f"give either epochs or max_steps (now {self.max_steps!r}), not both or none")
        at_least_one = (
            "epochs",
            "max_steps",
            "batch_size",
            "log_steps",
            "edge_multiple",
        )
        for key in at_least_one:
            if getattr(self, key) is not None and getattr(self, key) < 1:
                refuse(key, "must be at least 1")
        for key in ("eval_batch_size", "checkpoint_steps", "patience", "threads"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                refuse(key, "must be at least 1, or null")
        for key in ("workers", "eval_interval", "weight_decay", "clip_gradient", "seed"):
            if getattr(self, key) < 0:
                refuse(key, "must not be negative")
        if not self.learning_rate > 0:
            refuse("learning_rate", "must be positive; the paper uses 1e-4")
        if not 0 <= self.warmup < 1:
            refuse("warmup", "is a share of the run and must lie in [0, 1); 0.05 is usual")
        if not 0 < self.ema_warmup <= 1:
            refuse("ema_warmup", "is a share of the run and must lie in (0, 1]; 0.05 is usual")
        if self.val_share is not None and not 0 < self.val_share <= 0.5:
            refuse(
                "val_share", "is a share of the images and must lie in (0, 0.5], or be null; 0.15 is usual"
            )
        for old, new in self.classes.items():
            if not isinstance(old, str) or not isinstance(new, str) or not new.strip():
                refuse("classes", f"{old!r} is to be learned as {new!r}; give two names")
        if self.shortest_edge < 32:
            refuse("shortest_edge", "must be at least 32 pixels, one cell of the coarsest feature map")
        if self.longest_edge < self.shortest_edge:
            refuse("longest_edge", f"must be at least shortest_edge={self.shortest_edge}")
        if self.nms_threshold is not None and not 0 < self.nms_threshold <= 1:
            refuse("nms_threshold", "must lie in (0, 1], or be null")
        for key in _FACTORS:
            if not 0 <= getattr(self, key) <= 1:
                refuse(key, "must lie in [0, 1]")
        for name, factor in self.learning_rate_factors.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or factor < 0:
                refuse("learning_rate_factors", f"{name!r}: must be a number, 0 or more")
        if not 0 <= self.ema_decay < 1:
            refuse("ema_decay", "must lie in [0, 1); 0.999 to 0.9999 are usual, 0 is off")
        if not 0 <= self.start_share < 1:
            refuse("start_share", "must lie in [0, 1); 0.5 is half way back to the start, 0 is off")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            refuse("betas", "must be two numbers in [0, 1); AdamW's usual ones are [0.9, 0.999]")
        if list(self.lr_drops) != sorted(self.lr_drops) or any(drop <= 0 for drop in self.lr_drops):
            refuse("lr_drops", "must be positive and increasing")
        if self.micro_batches < 1:
            refuse("gradient_accumulation", "must be at least 1, or auto")
        if self.batch_size % self.micro_batches:
            refuse("gradient_accumulation", f"must divide batch_size={self.batch_size}")


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(recipe: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe by its name, from a YAML file, or from a mapping of its fields.

    A file that names another recipe as ``extends`` gives only what differs from it.

    Raises:
        FocusDetrError: it is not known, not readable, or a key or value in it is not usable.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_dict(recipe)
    return _read(recipe, ())


def _read(recipe: str | Path, extended_by: tuple[Path, ...]) -> Recipe:
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{recipe}.yaml"
        if not path.is_file() and is_preset(str(recipe)):  # as recipes were named before
            name = preset_recipe(str(recipe))
            warnings.warn(
                f"recipes are no longer named by presets: that of {str(recipe)!r} is {name!r}",
                FutureWarning,
                stacklevel=3,
            )
            path = RECIPES / f"{name}.yaml"
        if not path.is_file():
            raise FocusDetrError(
                f"recipe {str(recipe)!r} not known{did_you_mean(recipe, list_recipes())}; known: "
                f"{', '.join(list_recipes())}; or a .yaml file"
            )
    try:
        values = load_plain(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FocusDetrError(f"recipe {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FocusDetrError(f"recipe {path}: is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise FocusDetrError(f"recipe {path}: must be a mapping of keys to values")
    values.setdefault("name", path.stem)
    source = f"recipe {path.name}"
    if (base := values.pop("extends", None)) is not None:
        if path.resolve() in extended_by:
            raise FocusDetrError(f"recipe {path}: extends itself, by way of {base!r}; name another recipe")
        return _read(base, (*extended_by, path.resolve())).replace(values, source)
    return Recipe.from_dict(values, source)


def recipe_for(model: str | Path | PreTrainedModel) -> str:
    """The recipe where none is asked for: a preset names its own, other models have one of their size."""
    if isinstance(model, str | Path) and is_preset(str(model)):
        return preset_recipe(str(model))
    width = configuration_of(model).get("d_model")
    return "small-model" if isinstance(width, int) and width < _LARGE else "small-data"


def _as_type(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says, or refused; the types are those of Recipe's fields."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and types.NoneType in options:
            return None
        words = [word for each in options for word in typing.get_args(each)]  # of a Literal
        if isinstance(value, str) and value in words:
            return value
        try:
            return _as_type(value, options[0], where)
        except FocusDetrError as error:
            raise (FocusDetrError(f"{error}, or {', '.join(words)}") if words else error) from None
    if origin is Literal:
        if value in options:
            return value
        hint = did_you_mean(value, options)
        raise FocusDetrError(f"{where}={value!r}: must be one of {', '.join(options)}{hint}")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise FocusDetrError(f"{where}={value!r}: must be a list of numbers")
        return tuple(_as_type(item, options[0], where) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise FocusDetrError(f"{where}={value!r}: must be a mapping of keys to values")
        return dict(value)
    return _as_scalar(value, hint, where)


def _as_scalar(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            value = float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise FocusDetrError(f"{where}={value!r}: must be {names[kind]}")
    return value

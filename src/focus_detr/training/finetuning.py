"""Starting from a trained model with other classes, and saying exactly what was kept."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.structures.budget import AUTO


@dataclass
class FinetuningReport:
    """What became of every parameter and buffer of the new model."""

    source: str
    kept: list[str] = field(default_factory=list)
    """Taken over unchanged."""
    adapted: list[str] = field(default_factory=list)
    """Has a row for each class: rows of classes that both models name were taken over, the others are new."""
    new: list[str] = field(default_factory=list)
    """Starts as in a new model: absent from the source, or of another shape there."""
    unused: list[str] = field(default_factory=list)
    """In the source, with no place in the new model."""
    kept_classes: list[str] = field(default_factory=list)
    new_classes: list[str] = field(default_factory=list)
    dropped_classes: list[str] = field(default_factory=list)
    made_of: dict[str, list[str]] = field(default_factory=dict)
    """Of kept classes that the source names otherwise: its names of them."""

    def __str__(self) -> str:
        kept = [
            f"{name} (of {', '.join(self.made_of[name])})" if name in self.made_of else name
            for name in self.kept_classes
        ]

        def listed(names: Sequence[str]) -> str:
            shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            return shown or "none"

        return "\n".join(
            [
                f"from {self.source}: {len(self.kept)} tensors kept as they are",
                f"adapted to the classes ({len(self.adapted)}): {listed(self.adapted)}",
                f"new ({len(self.new)}): {listed(self.new)}",
                f"not used ({len(self.unused)}): {listed(self.unused)}",
                f"classes kept: {listed(kept)}; new: {listed(self.new_classes)}; "
                f"dropped: {listed(self.dropped_classes)}",
            ]
        )


def load_for_finetuning(
    folder: str | Path,
    class_names: Sequence[str],
    *,
    category_ids: Sequence[int] | None = None,
    renamed: Mapping[str, str] | None = None,
    model_class: type[PreTrainedModel] | None = None,
    **overrides: Any,
) -> tuple[PreTrainedModel, FinetuningReport]:
    """The model of ``folder`` (see `resolve_model`) for the classes ``class_names``.

    Tensors with a row for each class (class heads, label embedding) keep the rows of classes of the same
    name; every other tensor of the same name and shape is kept whole. A class that the model does not know
    starts as the mean of those that are ``renamed`` to it, as in `{"car": "vehicle", "truck": "vehicle"}`.
    ``overrides`` are fields of the configuration; options that they do not name stay the model's, unless they
    name another policy or host.

    Raises:
        FocusDetrError: no model there, no class, or the same class twice.
    """
    from focus_detr.models.plugins import import_plugins
    from focus_detr.zoo.loading import load_model
    from focus_detr.zoo.resolve import resolve_model

    if not class_names or len(set(class_names)) != len(class_names):
        raise FocusDetrError(f"class_names={list(class_names)!r}: must be one or more different names")
    path = resolve_model(folder)
    if path.is_file():
        raise FocusDetrError(
            f"{path}: an exported model cannot be trained; start from the model it was made from"
        )
    source = load_model(path, model_class=model_class)
    old_names = class_names_of(source.config)
    config = with_classes(source.config, class_names, category_ids)
    if overrides:
        import_plugins(overrides.get("plugins", ()))  # named by the caller, and not by the model's file
        config = type(config).from_dict(_overridden(config.to_dict(), overrides))
    model = _class_for(source, config)(config)
    report = FinetuningReport(source=path.name)
    origins = _origins(class_names, old_names, renamed or {})
    _transfer(source, model, old_names, list(class_names), origins, report)
    return model, report


def _class_for(source: PreTrainedModel, config: Any) -> type[PreTrainedModel]:
    from focus_detr.models.detector import FocusDetrForObjectDetection
    from focus_detr.models.segmenter import detector_class

    return detector_class(config) if isinstance(source, FocusDetrForObjectDetection) else type(source)


def _overridden(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    from focus_detr.models.options import in_place

    parts = {"host": "host_options", "token_policy": "policy_options"}
    if not parts.keys() <= values.keys():  # a model of somebody's own
        return {**values, **overrides}
    placed = in_place({**{part: values[part] for part in parts}, **overrides})
    for part, options in parts.items():
        known = values[options] if placed[part] == values[part] else {}
        placed[options] = {**known, **placed.get(options, {})}
    return {**values, **placed}


def class_names_of(config: Any) -> list[str]:
    """Class names of a model's configuration, by label."""
    return [config.id2label[label] for label in range(config.num_labels)]


_FOUND: dict[str, Any] = {"settings": {}, "auto_budget": None, "used_decoder_layers": None}
"""Fields that were chosen by what weights were worth, and their defaults: training makes other weights."""


def with_classes(config: Any, class_names: Sequence[str], category_ids: Sequence[int] | None = None) -> Any:
    """A copy of a model's configuration for other classes, and without what was found by its weights."""
    values = copy.deepcopy(config.to_dict())
    values.update({name: default for name, default in _FOUND.items() if name in values})
    if values.get("budget") == AUTO:
        values["budget"] = None  # its rule is one of these
    values.pop("num_labels", None)
    values["id2label"] = dict(enumerate(class_names))
    values["label2id"] = {name: label for label, name in enumerate(class_names)}
    if "category_ids" in values:
        values["category_ids"] = list(category_ids) if category_ids is not None else None
    if "class_thresholds" in values:
        known = values["class_thresholds"]
        values["class_thresholds"] = {name: known[name] for name in class_names if name in known}
    return type(config).from_dict(values)


def _origins(
    class_names: Sequence[str], old_names: Sequence[str], renamed: Mapping[str, str]
) -> dict[str, list[str]]:
    """What each class was for the source: itself, or those that are renamed to it; new ones are missing."""
    origins = {
        name: [name] if name in old_names else [old for old in old_names if renamed.get(old) == name]
        for name in class_names
    }
    return {name: old for name, old in origins.items() if old}


@torch.no_grad()
def _transfer(
    source: PreTrainedModel,
    model: PreTrainedModel,
    old_names: list[str],
    new_names: list[str],
    origins: dict[str, list[str]],
    report: FinetuningReport,
) -> None:
    report.kept_classes = list(origins)
    report.made_of = {name: old for name, old in origins.items() if old != [name]}
    report.new_classes = [name for name in new_names if name not in origins]
    report.dropped_classes = [name for name in old_names if name not in chain(*origins.values())]
    rows = {new_names.index(name): [old_names.index(each) for each in old] for name, old in origins.items()}
    same_classes = old_names == new_names
    class_dimension = {} if same_classes else _class_dimensions(model)
    old_state, new_state = source.state_dict(), model.state_dict()
    for name, tensor in new_state.items():
        if name not in old_state:
            report.new.append(name)
        elif name in class_dimension:
            copied = _copy_rows(old_state[name], tensor, class_dimension[name], rows)
            (report.adapted if copied else report.new).append(name)
        elif tensor.shape == old_state[name].shape:
            tensor.copy_(old_state[name])
            report.kept.append(name)
        else:
            report.new.append(name)
    report.unused = [name for name in old_state if name not in new_state]


def _class_dimensions(model: PreTrainedModel) -> dict[str, int]:
    """Which tensors have a row for each class, and along which dimension: one more class lengthens it."""
    names = class_names_of(model.config)
    larger = with_classes(model.config, [*names, "one more class"], None)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in type(model)(larger).state_dict().items()}
    dimensions = {}
    for name, tensor in model.state_dict().items():
        differing = [i for i, size in enumerate(tensor.shape) if shapes[name][i] != size]
        if differing:
            dimensions[name] = differing[0]
    return dimensions


def _copy_rows(old: Tensor, new: Tensor, dimension: int, rows: Mapping[int, list[int]]) -> bool:
    fits = old.dim() == new.dim() and all(
        a == b for i, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)) if i != dimension
    )
    if not fits or not rows:
        return False
    for target, origins in rows.items():
        new.select(dimension, target).copy_(
            old.index_select(dimension, torch.tensor(origins)).mean(dimension)
        )
    return True

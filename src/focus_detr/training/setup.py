"""What a run is made of: recipe, folder and data sets; each refused if unusable."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError, UnknownSplitError
from focus_detr.folders import whole_file
from focus_detr.models.plugins import refuse_strangers
from focus_detr.structures.classes import refuse_unknown, renamed_among
from focus_detr.structures.pixel_masks import HEAD
from focus_detr.training.checkpoints import list_checkpoints
from focus_detr.training.holding_back import hold_back, refuse_named_split
from focus_detr.training.origin import read_origin
from focus_detr.training.recipe import Recipe, load_recipe, recipe_for
from focus_detr.training.sharding import sharding_plugin
from focus_detr.training.time_budget import as_continued, refuse_length
from focus_detr.zoo.presets import is_preset
from focus_detr.zoo.resolve import configuration_of

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset

logger = logging.getLogger(__name__)

# What may change when a run goes on: none of it touches the weights.
_MAY_CHANGE = {"name", "workers", "threads", "patience", "eval_batch_size"}

_DEFAULT_SPLIT = Recipe().train_split
DEFAULT_MODEL = "everyday"


def check_device(device: str | None) -> None:
    """The fastest device there is, or the CPU: another can be refused, but not chosen."""
    if device in (None, "cpu"):
        return
    fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    if str(device) not in (fastest, f"{fastest}:0"):
        known = "'cpu'" if fastest == "cpu" else f"{fastest!r} or 'cpu'"
        raise FocusDetrError(
            f"device={device!r}: this machine trains on {known}; another GPU is chosen by "
            "CUDA_VISIBLE_DEVICES, several by torchrun"
        )


def check_precision(recipe: Recipe, device: torch.device) -> None:
    """Raise `FocusDetrError` where ``device`` cannot train in the recipe's precision."""
    if recipe.precision == "fp16" and device.type == "cpu":
        raise FocusDetrError("precision='fp16': needs a GPU; on a CPU train with fp32 or bf16")
    if recipe.precision == "fp16" and sharding_plugin() is not None:
        # Each process would scale, and skip a step, by the overflows of its own shards.
        raise FocusDetrError("precision='fp16': not with a model in shards (FSDP); train it with bf16")


def choose_model(
    model: str | Path | PreTrainedModel | None, output: str | Path | None, resume: bool
) -> str | Path | PreTrainedModel:
    """What a run starts from: a resumed run's own model, which must not be another now.

    Raises:
        FocusDetrError: the run in ``output`` was started from another model.
    """
    started_from = read_origin(Path(output)).get("model") if resume and output is not None else None
    if model is None or isinstance(model, PreTrainedModel):
        return model if model is not None else started_from or DEFAULT_MODEL
    if (
        started_from is not None
        and str(model) != started_from
        and Path(model).resolve() != Path(started_from).resolve()
    ):
        raise FocusDetrError(
            f"{output}: the run was started from {started_from}, not from {model}; leave the model out to "
            "go on with it, or start a new run in another output"
        )
    return model


def choose_recipe(
    model: str | Path | PreTrainedModel,
    recipe: str | Path | Mapping[str, Any] | Recipe | None,
    output: str | Path | None,
    resume: bool,
    overrides: Mapping[str, Any] | None,
    time: str | None = None,
) -> tuple[Recipe, Path]:
    """The recipe and the folder; a resumed run's own recipe, which must not have changed.

    With a budget of ``time`` a new run's length is still to be fitted: ``fitted_to`` is None.
    """
    if time is not None:
        refuse_length(time, overrides)
    saved_file = Path(output) / "recipe.yaml" if output is not None else None
    if resume and saved_file is not None and saved_file.is_file():
        saved = load_recipe(saved_file)
        chosen = (load_recipe(recipe) if recipe is not None else saved).replace(overrides)
        if chosen.gradient_accumulation == "auto":  # found when the run began
            chosen = chosen.replace({"gradient_accumulation": saved.gradient_accumulation})
        if time is not None:
            chosen = as_continued(chosen, saved, time, output)
        _refuse_strangers(recipe, chosen, overrides)
        changed = [key for key, value in chosen.to_dict().items() if value != saved.to_dict()[key]]
        if set(changed) - _MAY_CHANGE:
            raise FocusDetrError(
                f"{output}: resuming continues the run's own recipe, but {', '.join(changed)} would change; "
                f"leave that out, or start a new run from its last model"
            )
        return chosen, Path(output or "")
    name = model if isinstance(model, str) else "custom"
    chosen = load_recipe(recipe if recipe is not None else recipe_for(model))
    if recipe is None and is_preset(name):  # presets share recipes, and their runs should not share a folder
        chosen = chosen.replace({"name": name})
    chosen = chosen.replace(overrides)
    _refuse_strangers(recipe, chosen, overrides)
    folder = Path(output) if output is not None else Path("runs") / chosen.name
    if resume and output is None and (folder / "recipe.yaml").is_file():
        return choose_recipe(model, recipe, folder, resume, overrides, time)
    if resume:  # a run's folder has its recipe from the start
        raise FocusDetrError(f"{folder}: there is no run to resume; check output, or leave resume out")
    return (chosen if time is None else dataclasses.replace(chosen, fitted_to=None)), folder


def _refuse_strangers(recipe: Any, chosen: Recipe, overrides: Mapping[str, Any] | None) -> None:
    """Plugins that a recipe's file names may be anybody's; those the caller names are the caller's."""
    if not isinstance(recipe, Mapping | Recipe):
        said = overrides or {}
        allowed = said.get("model.plugins") or (said.get("model") or {}).get("plugins") or ()
        allowed = (*allowed, *(said.get("plugins") or ()))
        named = (*(chosen.model.get("plugins") or ()), *chosen.plugins)
        refuse_strangers(name for name in named if name not in allowed)


def newest_checkpoint(output: Path, resume: bool, first: bool) -> Path | None:
    """The checkpoint to continue from; a folder that holds another run is refused."""
    checkpoints = list_checkpoints(output / "checkpoints")
    if first and not resume and ((output / "recipe.yaml").exists() or checkpoints):
        raise FocusDetrError(
            f"{output}: holds a run already; continue it with resume (--resume), or give another output"
        )
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # nobody looks at the folder after it was written to
    if first and resume:
        found = checkpoints[-1].name if checkpoints else "its beginning, as it has no checkpoint yet"
        logger.info("resuming %s from %s", output, found)
    return checkpoints[-1] if checkpoints else None


def write_recipe(output: Path, recipe: Recipe) -> None:
    """Makes ``output`` the folder of a run; written last of all preparations, so that a refused start leaves
    nothing behind that the next one would stumble over."""
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / "recipe.yaml") as stream:
        stream.write(recipe.to_yaml().encode())


def for_task(overrides: Mapping[str, Any] | None, task: str | None) -> dict[str, Any]:
    """Fields of a recipe for a task: "segment" gives the model the head of masks, "detect" changes nothing,
    others are the recipe's own ``task``.

    Raises:
        FocusDetrError: the fields say otherwise.
    """
    chosen = dict(overrides or {})
    if task in (None, "detect"):
        return chosen
    if task != "segment":
        if chosen.setdefault("task", task) != task:
            raise FocusDetrError(f"task={task!r}: not beside task={chosen['task']!r}; leave one out")
        return chosen
    heads = chosen.get("model.heads", (chosen.get("model") or {}).get("heads"))
    if heads is not None and HEAD not in heads:
        raise FocusDetrError(f"task='segment': not beside model.heads={heads}; add {HEAD!r} to them")
    return chosen if heads is not None else {**chosen, "model.heads": [HEAD]}


def with_entry(
    overrides: Mapping[str, Any] | None, field: str, entry: str, value: str | Path | None
) -> dict[str, Any]:
    """Fields of a recipe with what a caller names: the ``entry`` of the mapping ``field``.

    Raises:
        FocusDetrError: the fields name another.
    """
    chosen = dict(overrides or {})
    if value is None:
        return chosen
    said = chosen.get(f"{field}.{entry}", (chosen.get(field) or {}).get(entry, value))
    if str(said) != str(value):
        raise FocusDetrError(f"{field}={str(value)!r}: not beside {field}.{entry}={said!r}; leave one out")
    if field in chosen:
        return {**chosen, field: {**chosen[field], entry: str(value)}}
    return {**chosen, f"{field}.{entry}": str(value)}


def learns_masks(model: str | Path | PreTrainedModel, recipe: Recipe) -> bool:
    """Whether what a run trains has masks: by the recipe, or as what it starts from."""
    if "heads" in recipe.model:
        return HEAD in recipe.model["heads"]
    if isinstance(model, str | Path) and is_preset(str(model)):
        return False
    heads = configuration_of(model).get("heads")
    return isinstance(heads, list) and HEAD in heads


def load_datasets(
    data: Any, eval_data: Any, recipe: Recipe, run: Path | None = None, masks: bool = False
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """What to learn, and what to evaluate on; ``run`` is the folder of a resumed run.

    Raises:
        FocusDetrError: ``masks`` are to be learned, and no object has one; or the data cannot be used.
    """
    learned, evaluated = _load_datasets(data, eval_data, recipe, run, masks)
    if masks:
        from focus_detr.data.masks import refuse_without_masks

        refuse_without_masks(learned)
    return learned, evaluated


def _load_datasets(
    data: Any, eval_data: Any, recipe: Recipe, run: Path | None, masks: bool
) -> tuple[DetectionDataset, DetectionDataset | None]:
    if recipe.val_share is not None:
        refuse_named_split(data, eval_data, recipe)
        whole = _load_to_learn(data, recipe, masks)
        learned, held_back = hold_back(whole, recipe.val_share, recipe.seed, run)
        return _to_learn(learned, recipe), held_back
    dataset = load_training_data(data, recipe, masks)
    return dataset, load_evaluation_data(data, eval_data, recipe, dataset, masks)


def load_training_data(data: Any, recipe: Recipe, masks: bool = False) -> DetectionDataset:
    return _to_learn(_load_to_learn(data, recipe, masks), recipe)


def _load_to_learn(data: Any, recipe: Recipe, masks: bool = False) -> DetectionDataset:
    dataset = _load(data, _training_split(data, recipe), "train_split", recipe.crowds, masks=masks)
    if recipe.classes:
        from focus_detr.data.merging import merge_classes

        refuse_unknown(recipe.classes, dataset.class_names, f"{dataset.name} has")
        dataset = merge_classes(dataset, renamed_among(recipe.classes, dataset.class_names))
    thresholds = recipe.model.get("class_thresholds")
    if isinstance(thresholds, Mapping):
        refuse_unknown(thresholds, dataset.class_names, "those that are learned have", "class_thresholds")
    if not any(len(record.labels) for record in dataset.records):
        raise FocusDetrError(
            f"{dataset.name}: no image of {dataset.split!r} has an object that could be learned; look at "
            "what `focus-detr check` says of the data set"
        )
    return dataset


def _to_learn(dataset: DetectionDataset, recipe: Recipe) -> DetectionDataset:
    if not recipe.skip_empty:
        return dataset
    return dataset.with_records([record for record in dataset.records if len(record.labels)])


def _training_split(data: Any, recipe: Recipe) -> str | None:
    """Data to be divided often have no split at all, which no one should have to name."""
    from focus_detr.data import DetectionDataset, list_splits

    undivided = recipe.val_share is not None and recipe.train_split == _DEFAULT_SPLIT
    if undivided and not isinstance(data, DetectionDataset) and len(list_splits(data)) == 1:
        return None
    return recipe.train_split


def load_evaluation_data(
    data: Any, eval_data: Any, recipe: Recipe, dataset: DetectionDataset, masks: bool = False
) -> DetectionDataset | None:
    from focus_detr.data import DetectionDataset
    from focus_detr.data.merging import merge_classes

    if eval_data is None and (recipe.eval_split is None or isinstance(data, DetectionDataset)):
        return None
    source = data if eval_data is None else eval_data
    if not recipe.classes:
        return _load(source, recipe.eval_split, "eval_split", recipe.crowds, dataset.class_names, masks)
    evaluated = _load(source, recipe.eval_split, "eval_split", recipe.crowds, masks=masks)
    return merge_classes(evaluated, renamed_among(recipe.classes, evaluated.class_names), dataset.class_names)


def _load(
    data: Any, split: str | None, key: str, crowds: str, classes: Any = None, masks: bool = False
) -> DetectionDataset:
    """A split of a data set; one that is not there is said with the recipe's key that names it."""
    from focus_detr.data import DetectionDataset, list_splits, load_dataset

    if isinstance(data, DetectionDataset):
        return data
    try:
        return load_dataset(data, split, classes=classes, crowds=crowds, masks=masks)
    except UnknownSplitError as error:
        fixes = [f"--set {key}={name}" for name in list_splits(data)]
        if key == "eval_split":
            fixes += ["--val-share 0.15 to hold back a share of the images that are trained on"]
            fixes += ["--set eval_split=null to train without evaluating", "--eval-data for another data set"]
        raise FocusDetrError(f"{error} Say which with {', or '.join(fixes)}.") from error

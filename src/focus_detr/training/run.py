"""train(): from a data set and a recipe to a folder with a trained model."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.training.checkpoints import list_checkpoints
from focus_detr.training.evaluating import Evaluator, coco_evaluator
from focus_detr.training.recipe import Recipe, load_recipe, recipe_for

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.image_processing import FocusDetrImageProcessor
    from focus_detr.training.trainer import DetectionTrainer

logger = logging.getLogger(__name__)

# What may change when a run goes on: none of it touches the weights.
_MAY_CHANGE = {"workers", "threads", "patience"}


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind."""

    output: Path
    steps: int
    best: Path | None
    """Model folder of the evaluation with the highest AP; None where nothing was evaluated."""
    last: Path
    """Model folder of the end of training."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers of the best evaluation, among them AP."""
    report: Any = None
    """`FinetuningReport` where training started from a trained model."""

    @property
    def model(self) -> Path:
        """The folder to use: the best model, or the last where nothing was evaluated."""
        return self.best or self.last


def train(
    data: str | Path | DetectionDataset,
    *,
    model: str | Path | PreTrainedModel = "focus-detr-lite0",
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    eval_data: str | Path | DetectionDataset | None = None,
    device: str | None = None,
    evaluator: Evaluator | None = None,
) -> TrainingResult:
    """Train a detector.

    ``output`` ends with ``best/`` and ``last/`` (model folders), ``recipe.yaml``, ``metrics.csv``,
    ``curves.png`` and ``samples.jpg`` (training images as augmented). Start it under ``torchrun`` for several
    processes; ``batch_size`` is that of all of them together.

    Args:
        data: data set folder, or a loaded one. The recipe names the splits.
        model: preset (see `list_presets`), bundled name or folder of a trained model, or a model.
        recipe: name (see `list_recipes`), YAML file or fields; None takes the one meant for the model.
        output: folder of the run; ``runs/<recipe name>`` where None.
        resume: go on with the run in ``output`` exactly where its newest checkpoint left it.
        overrides: fields of the recipe to change.
        eval_data: data set to evaluate on, where it is not a split of ``data``.
        device: "cpu" to train there whatever else there is; None for the fastest there is.
        evaluator: model -> numbers, among them ``AP``, instead of COCO's on the evaluation data.

    Raises:
        FocusDetrError: something given is unusable, training diverged, or memory ran out; the message says
            what to change.
    """
    _check_device(device)
    chosen, output = _choose(model, recipe, output, resume, overrides)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    with without_local_datasets_folder():
        from focus_detr.training.trainer import DetectionTrainer, training_arguments

    # Joins the other processes, of which only the first then writes.
    first = training_arguments(chosen, output, device == "cpu").process_index == 0
    checkpoint = _prepare_output(output, chosen, resume, first)
    dataset = _load(data, chosen.train_split, chosen.skip_empty)
    eval_dataset = _load_evaluation(data, eval_data, chosen, dataset)
    torch.manual_seed(chosen.seed)
    detector, report = _build_model(model, checkpoint, chosen, dataset)
    if report is not None and first:
        logger.info("%s", report)
        (output / "finetuning.txt").write_text(f"{report}\n", encoding="utf-8")
    processor = _image_processor(model, chosen)
    if evaluator is None and eval_dataset is not None:
        evaluator = coco_evaluator(eval_dataset, processor, chosen.batch_size, chosen.workers)
    from focus_detr.data import Collator, TransformedDataset, build_transforms

    size = {"shortest_edge": chosen.shortest_edge, "longest_edge": chosen.longest_edge}
    transforms = build_transforms(chosen.augmentation, **{"size": size, **chosen.augmentation_options})
    trainer = DetectionTrainer(
        detector,
        chosen,
        output,
        TransformedDataset(dataset, transforms, chosen.seed),
        Collator(processor),
        evaluator,
        processor,
        {record.image_id: record.path for record in dataset.records},
        use_cpu=device == "cpu",
    )
    if first and not (output / "samples.jpg").exists():
        _draw_samples(trainer.train_dataset, output / "samples.jpg")
    _run(trainer, checkpoint)
    trainer.save_trained_model(output / "last")
    best = output / "best"
    return TrainingResult(
        output=output,
        steps=trainer.state.global_step,
        best=best if best.is_dir() else None,
        last=output / "last",
        metrics=_best_metrics(trainer),
        report=report,
    )


def _check_device(device: str | None) -> None:
    """Trainer takes the fastest device there is: another can be refused, but not chosen."""
    if device in (None, "cpu"):
        return
    fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    if str(device) not in (fastest, f"{fastest}:0"):
        raise FocusDetrError(
            f"device={device!r}: this machine trains on {fastest!r} or 'cpu'; another GPU is chosen by "
            "CUDA_VISIBLE_DEVICES, several by torchrun"
        )


def _choose(
    model: str | Path | PreTrainedModel,
    recipe: str | Path | Mapping[str, Any] | Recipe | None,
    output: str | Path | None,
    resume: bool,
    overrides: Mapping[str, Any] | None,
) -> tuple[Recipe, Path]:
    """The recipe and the folder; a resumed run's own recipe, which must not have changed."""
    saved_file = Path(output) / "recipe.yaml" if output is not None else None
    if resume and saved_file is not None and saved_file.is_file():
        saved = Recipe.from_dict(yaml.safe_load(saved_file.read_text(encoding="utf-8")), str(saved_file))
        chosen = (load_recipe(recipe) if recipe is not None else saved).replace(overrides)
        changed = [key for key, value in chosen.to_dict().items() if value != saved.to_dict()[key]]
        if set(changed) - _MAY_CHANGE:
            raise FocusDetrError(
                f"{output}: resuming continues the run's own recipe, but {', '.join(changed)} would change; "
                f"leave that out, or start a new run from its last model"
            )
        return chosen, Path(output or "")
    name = model if isinstance(model, str) else "custom"
    chosen = load_recipe(recipe if recipe is not None else recipe_for(name)).replace(overrides)
    folder = Path(output) if output is not None else Path("runs") / chosen.name
    if resume and not folder.is_dir():
        raise FocusDetrError(f"{folder}: there is no run to resume; check output, or leave resume out")
    return chosen, folder


def _prepare_output(output: Path, recipe: Recipe, resume: bool, first: bool) -> Path | None:
    """The checkpoint to continue from; a folder that holds another run is refused."""
    checkpoints = list_checkpoints(output / "checkpoints")
    if first:
        if not resume and ((output / "recipe.yaml").exists() or checkpoints):
            raise FocusDetrError(
                f"{output}: holds a run already; give resume=True to continue it, or another output"
            )
        output.mkdir(parents=True, exist_ok=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # nobody looks at the folder after it was written to
    if first:
        writing = output / ".recipe.yaml.writing"
        writing.write_text(recipe.to_yaml(), encoding="utf-8")
        os.replace(writing, output / "recipe.yaml")
        if resume:
            found = checkpoints[-1].name if checkpoints else "its beginning, as it has no checkpoint yet"
            logger.info("resuming %s from %s", output, found)
    return checkpoints[-1] if checkpoints else None


def _load(data: Any, split: str | None, skip_empty: bool = False, classes: Any = None) -> DetectionDataset:
    from focus_detr.data import DetectionDataset, load_dataset

    dataset = data if isinstance(data, DetectionDataset) else load_dataset(data, split, classes=classes)
    if not skip_empty:
        return dataset
    records = [record for record in dataset.records if len(record.labels)]
    return DetectionDataset(
        records,
        dataset.class_names,
        dataset.category_ids,
        dataset.problems,
        dataset.name,
        dataset.split,
        dataset.format,
    )


def _load_evaluation(
    data: Any, eval_data: Any, recipe: Recipe, dataset: DetectionDataset
) -> DetectionDataset | None:
    from focus_detr.data import DetectionDataset

    if eval_data is None and (recipe.eval_split is None or isinstance(data, DetectionDataset)):
        return None
    return _load(eval_data if eval_data is not None else data, recipe.eval_split, classes=dataset.class_names)


def _build_model(
    model: str | Path | PreTrainedModel,
    checkpoint: Path | None,
    recipe: Recipe,
    dataset: DetectionDataset,
) -> tuple[PreTrainedModel, Any]:
    """The model to train, with the data's classes; and the report where it comes from a trained one."""
    from focus_detr.presets import list_presets
    from focus_detr.training.finetuning import class_names_of, load_for_finetuning

    report = None
    if isinstance(model, PreTrainedModel):
        detector = model
    elif checkpoint is not None:
        from focus_detr.models import FocusDetrForObjectDetection

        detector = FocusDetrForObjectDetection.from_pretrained(checkpoint)
    elif str(model) in list_presets():
        detector = _new_model(str(model), recipe, dataset)
    else:
        detector, report = load_for_finetuning(
            model, dataset.class_names, category_ids=dataset.category_ids, **recipe.model
        )
    names = class_names_of(detector.config)
    if names != list(dataset.class_names):
        raise FocusDetrError(
            f"the model detects {names}, the data set has {list(dataset.class_names)}; resume with the data "
            "of the run, or start a new one from the model's folder"
        )
    detector.config.training_recipe = recipe.to_dict()
    if recipe.gradient_checkpointing:
        if not detector.supports_gradient_checkpointing:
            raise FocusDetrError(
                f"gradient_checkpointing=True: {type(detector).__name__} does not support it; set it to false"
            )
        detector.gradient_checkpointing_enable()
    return detector, report


def _new_model(name: str, recipe: Recipe, dataset: DetectionDataset) -> PreTrainedModel:
    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.models.pretrained_backbone import load_pretrained_backbone
    from focus_detr.presets import preset

    config = preset(
        name,
        id2label=dict(enumerate(dataset.class_names)),
        label2id={each: label for label, each in enumerate(dataset.class_names)},
        category_ids=list(dataset.category_ids),
        **recipe.model,
    )
    detector = FocusDetrForObjectDetection(config)
    if recipe.backbone_weights is not None:
        load_pretrained_backbone(detector.backbone, recipe.backbone_weights)
    else:
        logger.warning(
            "the backbone starts from random numbers, which needs far more data and time; set "
            "backbone_weights in the recipe, or start from a trained model"
        )
    return detector


def _image_processor(model: str | Path | PreTrainedModel, recipe: Recipe) -> FocusDetrImageProcessor:
    """The recipe's image sizes, with a trained model's own normalisation."""
    from focus_detr.image_processing import FocusDetrImageProcessor
    from focus_detr.presets import list_presets
    from focus_detr.pretrained import resolve_model

    size = {"shortest_edge": recipe.shortest_edge, "longest_edge": recipe.longest_edge}
    if isinstance(model, PreTrainedModel) or str(model) in list_presets():
        return FocusDetrImageProcessor(size=size)
    return FocusDetrImageProcessor.from_pretrained(resolve_model(model), size=size)


def _draw_samples(dataset: Any, path: Path) -> None:
    """A picture of the first training images as augmented, to see that boxes and augmentation are right."""
    from focus_detr.data import sample_grid

    sample_grid(dataset, path)


def _run(trainer: DetectionTrainer, checkpoint: Path | None) -> None:
    from transformers.trainer_callback import TrainerState

    from focus_detr.training.monitoring import out_of_patience

    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step >= state.max_steps or out_of_patience(state, trainer.recipe):
            logger.info("the run had ended already")
            trainer.restore(checkpoint, state)
            return
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        recipe = trainer.recipe
        raise FocusDetrError(
            f"memory ran out on {trainer.args.device} ({str(error).splitlines()[0]}). Lower what a step "
            f"needs: gradient_accumulation above {recipe.gradient_accumulation} (the same batch in smaller "
            f"parts), batch_size below {recipe.batch_size}, gradient_checkpointing: true (now "
            f"{str(recipe.gradient_checkpointing).lower()}), precision: bf16 (now {recipe.precision}), "
            f"shortest_edge and longest_edge below {recipe.shortest_edge} and {recipe.longest_edge}"
        ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    words = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "not enough memory" in words
    )


def _best_metrics(trainer: DetectionTrainer) -> dict[str, float]:
    for row in trainer.state.log_history:
        if row.get("step") == trainer.state.best_global_step and "eval_AP" in row:
            return {
                name.removeprefix("eval_"): value for name, value in row.items() if name.startswith("eval_")
            }
    return {}


@contextmanager
def without_local_datasets_folder() -> Iterator[None]:
    """Import transformers' Trainer while a local folder named "datasets" cannot pass for the package.

    Python takes any folder of that name beside the script for a package, and transformers would import it.
    """
    spec = importlib.util.find_spec("datasets") if "datasets" not in sys.modules else None
    if spec is None or spec.origin is not None:
        yield
        return
    hidden = {str(Path(place).parent) for place in spec.submodule_search_locations or []}
    kept = list(sys.path)
    sys.path[:] = [place for place in sys.path if str(Path(place or ".").resolve()) not in hidden]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = kept

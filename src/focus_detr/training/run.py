"""train(): from a data set and a recipe to a folder with a trained model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.models.plugins import trusting_plugins
from focus_detr.training.evaluating import Evaluator, coco_evaluator
from focus_detr.training.imports import without_local_datasets_folder
from focus_detr.training.recipe import Recipe
from focus_detr.training.setup import (
    check_device,
    choose_recipe,
    load_evaluation_data,
    load_training_data,
    newest_checkpoint,
    write_recipe,
)
from focus_detr.training.starting_model import build_image_processor, build_model, processor_folder

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.training.trainer import DetectionTrainer

logger = logging.getLogger(__name__)


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
    trust_plugins: bool = False,
) -> TrainingResult:
    """Train a detector.

    ``output`` ends with ``best/`` and ``last/`` (model folders), ``recipe.yaml``, ``metrics.csv``,
    ``curves.png`` and ``samples.jpg`` (training images as augmented). Start it under ``torchrun`` for several
    processes; ``batch_size`` is that of all of them together.

    Args:
        data: data set folder, or a loaded one. The recipe names the splits.
        model: preset (see `list_presets`), bundled name or folder of a trained model, or a model.
        recipe: name (see `list_recipes`), YAML file or fields; None takes the one meant for the model.
        output: folder of the run; ``runs/<preset>`` or ``runs/<recipe>`` where None, whichever was named.
        resume: go on with the run in ``output`` exactly where its newest checkpoint left it.
        overrides: fields of the recipe to change; ``{"model.token_policy": "salience"}`` for one in a field.
        eval_data: data set to evaluate on, where it is not a split of ``data``.
        device: "cpu" to train there whatever else there is; None for the fastest there is.
        evaluator: model -> numbers, among them ``AP``, instead of COCO's on the evaluation data.
        trust_plugins: import the modules that the model or a recipe's file names, which runs their code.

    Raises:
        FocusDetrError: something given is unusable, training diverged, or memory ran out; the message says
            what to change.
    """
    check_device(device)
    with trusting_plugins(trust_plugins):
        chosen, output = choose_recipe(model, recipe, output, resume, overrides)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    with without_local_datasets_folder():
        from focus_detr.training.arguments import training_arguments
        from focus_detr.training.trainer import DetectionTrainer

    # Joins the other processes, of which only the first then writes.
    first = training_arguments(chosen, output, device == "cpu").process_index == 0
    checkpoint = newest_checkpoint(output, resume, first)
    dataset = load_training_data(data, chosen)
    eval_dataset = load_evaluation_data(data, eval_data, chosen, dataset)
    torch.manual_seed(chosen.seed)
    with trusting_plugins(trust_plugins):
        detector, report = build_model(model, checkpoint, chosen, dataset)
        processor = build_image_processor(processor_folder(checkpoint, output) or model, chosen)
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
    if first:
        write_recipe(output, chosen)
        if report is not None:
            logger.info("%s", report)
            (output / "finetuning.txt").write_text(f"{report}\n", encoding="utf-8")
        if not (output / "samples.jpg").exists():
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


def _draw_samples(dataset: Any, path: Path) -> None:
    """A picture of the first training images as augmented, to see that boxes and augmentation are right."""
    from focus_detr.pictures.samples import sample_grid

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

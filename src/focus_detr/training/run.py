"""train(): from a data set and a recipe to a folder with a trained model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from focus_detr.disk import explained_disk, only_run
from focus_detr.folders import from_home, writable_folder, write_whole
from focus_detr.models.plugins import trusting_plugins
from focus_detr.training.assembly import Assembly
from focus_detr.training.evaluating import Evaluator
from focus_detr.training.failures import memory_advice
from focus_detr.training.fitting import fit_to_time
from focus_detr.training.holding_back import warn_of_learned, write_held_back
from focus_detr.training.micro_batches import fit_to_memory
from focus_detr.training.origin import refuse_other_data, write_origin
from focus_detr.training.processes import check_share, join_processes
from focus_detr.training.randomness import own_surroundings
from focus_detr.training.recipe import Recipe
from focus_detr.training.setup import (
    check_device,
    check_precision,
    choose_model,
    choose_recipe,
    for_task,
    learns_masks,
    load_datasets,
    newest_checkpoint,
    with_entry,
    write_recipe,
)
from focus_detr.training.sharding import sharding_advice
from focus_detr.training.starting_model import warn_of_start

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset

logger = logging.getLogger(__name__)

_PATIENCE_S = 15.0
"""The processes that read pictures outlive a run that was killed, by some seconds."""


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
    model: str | Path | PreTrainedModel | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    eval_data: str | Path | DetectionDataset | None = None,
    device: str | None = None,
    evaluator: Evaluator | None = None,
    trust_plugins: bool = False,
    time: str | None = None,
    task: str | None = None,
    teacher: str | Path | None = None,
    unlabelled: str | Path | None = None,
) -> TrainingResult:
    """Train a detector.

    ``output`` ends with ``best/`` and ``last/`` (model folders), ``recipe.yaml``, ``metrics.csv``,
    ``curves.png`` and ``samples.jpg`` (training images as augmented). Start it under ``torchrun`` for several
    processes; ``batch_size`` is that of all of them together. Random generators and torch's number of threads
    are set for the run, and put back when it ends. Ctrl-C and SIGTERM end it after the step under way, with a
    checkpoint to resume from.

    Args:
        data: data set folder, or a loaded one. The recipe names the splits.
        model: preset (see `list_presets`), bundled name or folder of a trained model, or a model; None for
            the preset "focus-detr-lite0", or for a resumed run's own.
        recipe: name (see `list_recipes`), YAML file or fields; None takes the one meant for the model.
        output: folder of the run; ``runs/<preset>`` or ``runs/<recipe>`` where None, whichever was named.
        resume: go on with the run in ``output`` exactly where its newest checkpoint left it; the same data.
        overrides: fields of the recipe to change; ``{"model.token_policy": "salience"}`` for one in a field.
        eval_data: data set to evaluate on, where it is not a split of ``data``.
        device: "cpu" to train there whatever else there is; None for the fastest there is.
        evaluator: model -> numbers, among them ``AP``, instead of COCO's on the evaluation data.
        trust_plugins: import the modules that the model or a recipe's file names, which runs their code.
        time: budget of training, "20m", "1h30m" or "90s": after some steps measured on this machine, the
            recipe's length is fitted to it, and kept with the run. The training is that of ``max_steps``.
        task: "segment" to learn masks, too, from data that have them; "detect", or None, boxes alone, unless
            the model has masks. Any other is the recipe's ``task`` ("any-budget", say).
        teacher: a trained model to learn from beside the labels; the recipe's ``teacher.model``.
        unlabelled: folder of pictures without labels to learn from, too; the recipe's ``unlabelled.folder``.

    Raises:
        FocusDetrError: something given is unusable, training diverged, or memory ran out; the message says
            what to change.
    """
    check_device(device)
    data, eval_data, recipe, output, model, teacher, unlabelled = map(
        from_home, (data, eval_data, recipe, output, model, teacher, unlabelled)
    )
    overrides = with_entry(for_task(overrides, task), "teacher", "model", teacher)
    overrides = with_entry(overrides, "unlabelled", "folder", unlabelled)
    model = choose_model(model, output, resume)
    with trusting_plugins(trust_plugins):
        chosen, output = choose_recipe(model, recipe, output, resume, overrides, time)
    use_cpu = device == "cpu"
    accelerator = join_processes(use_cpu)
    check_share(chosen, accelerator.num_processes)
    check_precision(chosen, accelerator.device)
    writable_folder(output)
    first = accelerator.is_main_process
    with ExitStack() as within:
        if first:
            within.enter_context(only_run(output, patience=_PATIENCE_S if resume else 0))
        checkpoint = newest_checkpoint(output, resume, first)
        within.enter_context(own_surroundings(chosen.threads, use_cpu))
        within.enter_context(explained_disk(output, again="go on with resume (--resume)"))
        return _train(
            accelerator, data, eval_data, model, chosen, output, checkpoint, evaluator, trust_plugins, time
        )


def _train(
    accelerator: Accelerator,
    data: Any,
    eval_data: Any,
    model: str | Path | PreTrainedModel,
    recipe: Recipe,
    output: Path,
    checkpoint: Path | None,
    evaluator: Evaluator | None,
    trust_plugins: bool,
    time: str | None,
) -> TrainingResult:
    run = output if checkpoint is not None else None
    dataset, eval_dataset = load_datasets(data, eval_data, recipe, run, learns_masks(model, recipe))
    if checkpoint is not None:
        refuse_other_data(output, (dataset, eval_dataset))

    assembly = Assembly(accelerator, dataset, eval_dataset, checkpoint, evaluator, trust_plugins)
    if accelerator.is_main_process and checkpoint is None:
        warn_of_start(model, recipe)
    if recipe.gradient_accumulation == "auto":
        recipe = fit_to_memory(assembly, model, recipe, output)
    if time is not None and recipe.fitted_to is None:
        recipe = fit_to_time(assembly, model, recipe, output, time)
    loop, report = assembly.loop(model, recipe, output)
    if checkpoint is not None:
        loop.restore(checkpoint)
    if accelerator.is_main_process:
        if checkpoint is None:
            write_origin(
                output, None if isinstance(model, PreTrainedModel) else str(model), (dataset, eval_dataset)
            )
            if recipe.val_share is not None and eval_dataset is not None:
                write_held_back(output, eval_dataset)
        if recipe.val_share is None and eval_dataset is not None:
            warn_of_learned(dataset, eval_dataset)
        write_recipe(output, recipe)
        if report is not None:
            logger.info("%s", report)
            write_whole(output / "finetuning.txt", f"{report}\n")
        if not (output / "samples.jpg").exists():
            _draw_samples(loop.dataset, output / "samples.jpg")
    if loop.ended:
        logger.info("the run had ended already")
    else:
        if checkpoint is None:
            set_seed(recipe.seed)
        with memory_advice(recipe, loop), sharding_advice():
            loop.run()
    loop.save_trained_model(output / "last")
    best = output / "best"
    return TrainingResult(
        output=output,
        steps=loop.state.step,
        best=best if best.is_dir() else None,
        last=output / "last",
        metrics=loop.state.best_metrics(),
        report=report,
    )


def _draw_samples(dataset: Any, path: Path) -> None:
    """A picture of the first training images as augmented, to see that boxes and augmentation are right."""
    from focus_detr.pictures.samples import sample_grid

    sample_grid(dataset, path)

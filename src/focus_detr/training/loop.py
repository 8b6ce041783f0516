"""The training loop: epochs of steps of micro-batches, evaluated, logged and saved in between."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.losses.whole_step import standing_in
from focus_detr.training.checkpoints import replaced_folder
from focus_detr.training.distributed_model import DistributedModel
from focus_detr.training.evaluating import Evaluator, evaluate_together
from focus_detr.training.failures import MicroBatch, not_finite
from focus_detr.training.interruption import SIGNALS, Interruption, interruptions
from focus_detr.training.means import Means
from focus_detr.training.monitoring import Callback
from focus_detr.training.processes import anywhere, mean_of_all
from focus_detr.training.recipe import Recipe
from focus_detr.training.sampling import STANDS_IN, EpochBatchSampler, load_steps
from focus_detr.training.saving import Checkpointer, save_model
from focus_detr.training.state import TrainingState
from focus_detr.training.tasks import Step, Task
from focus_detr.training.updating import Updater

logger = logging.getLogger(__name__)


class TrainingLoop:
    """Trains a model by a recipe into a folder.

    Args:
        accelerator: of this process; see `join_processes`.
        model: called by the task.
        task: computes the loss of a batch.
        recipe: see `Recipe`.
        output: folder of the run; checkpoints go to ``checkpoints/``, the best model to ``best/``.
        dataset: items that ``collator`` makes batches of; ``set_epoch`` is called where it has one.
        collator: items -> ``{"pixel_values", "pixel_mask", "labels"}``.
        evaluator: model -> numbers, among them ``AP``; None never evaluates.
        image_processor: saved with the model.
        image_paths: file of each ``image_id``, to name the images of a step that fails.
        callbacks: told, in the first process alone, of what happens.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        task: Task,
        recipe: Recipe,
        output: Path,
        dataset: Any,
        collator: Callable[[Any], dict[str, Any]],
        evaluator: Evaluator | None = None,
        image_processor: Any = None,
        image_paths: Mapping[int, Path] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.accelerator, self.task, self.recipe, self.output = accelerator, task, recipe, output
        self.dataset, self.collator, self.evaluator = dataset, collator, evaluator
        self.image_processor, self.image_paths = image_processor, image_paths or {}
        self.device, self.first = accelerator.device, accelerator.is_main_process
        self.callbacks = list(callbacks) if self.first else []
        self.evaluating = False
        self.measuring = False  # what it writes is thrown away

        self.sampler = EpochBatchSampler(
            dataset,
            recipe.batch_size // recipe.micro_batches,
            recipe.seed,
            accelerator.process_index,
            accelerator.num_processes,
            recipe.micro_batches,
        )
        steps_per_epoch = math.ceil(len(self.sampler) / recipe.micro_batches)
        total = recipe.max_steps or steps_per_epoch * (recipe.epochs or 1)
        self.state = TrainingState(total, steps_per_epoch)
        self.model = DistributedModel(model, recipe, total, accelerator)
        task.begin(None if self.model.average is None else self.model.average.module)
        self.updater = Updater(self.model.trained, recipe, total, self.device)
        self.means = Means()
        parts: dict[str, Any] = {
            **self.updater.parts,
            "ema.pt": self.model.average,
            "start.pt": self.model.start,
        }
        parts["task.pt"] = task if task.state_dict() else None
        self.checkpointer = Checkpointer(
            accelerator, output / "checkpoints", self.model, parts, image_processor
        )

    @property
    def ended(self) -> bool:
        patience = self.recipe.patience
        impatient = patience is not None and self.state.evaluations_since_best() >= patience
        return impatient or self.state.step >= self.state.total_steps

    # Steps

    def run(self) -> None:
        """Train until the recipe says to stop."""
        state, recipe = self.state, self.recipe
        self.model.called.train()
        self._tell("on_start")
        try:
            with interruptions() as interruption:
                while not self.ended:
                    epoch, done = divmod(state.step, state.steps_per_epoch)
                    self.sampler.set_epoch(epoch)
                    for batches in load_steps(self.sampler, done, self.collator, recipe.workers, self.device):
                        self._step(batches, interruption)
                        if state.step % state.steps_per_epoch == 0 or state.step >= state.total_steps:
                            break  # logged and saved after the evaluation, which a kill must not lose
                        saving = recipe.checkpoint_steps and state.step % recipe.checkpoint_steps == 0
                        # A row of losses ends at each checkpoint: those of a resumed run start afresh there.
                        if saving or state.step % recipe.log_steps == 0:
                            self._log_losses()
                        if saving:
                            self.save_checkpoint()
                    self._log_losses()
                    self._evaluate_if_due()
                    self.save_checkpoint()
        finally:
            self._tell("on_end")
        self.checkpointer.tidy()

    def _step(self, batches: list[dict[str, Any]], interruption: Interruption) -> None:
        """One optimiser step."""
        state = self.state
        micro_batches = self.compute_gradients(batches)
        norm, good_norm = self.updater.clip()
        good_loss = torch.stack([each.loss.isfinite().all() for each in micro_batches]).all()
        # The step's one wait for the device.
        losses_good, gradient_good = torch.stack([good_loss, good_norm.to(good_loss.device)]).tolist()
        signals = (interruption.signal == number for number in SIGNALS)
        bad_loss, bad_gradient, *stopping = anywhere(
            self.accelerator, not losses_good, not gradient_good, *signals
        )
        if bad_loss or bad_gradient:
            self._stop("the loss" if bad_loss else "the gradient", micro_batches)

        self.means.last("grad_norm", norm)
        self.means.last("learning_rate", self.updater.learning_rate)
        self.updater.update()
        self.model.update_average()
        state.step += 1
        self._tell("on_step")
        if any(stopping):
            self._save_interrupted()
            interruption.end_all(stopping)

    def compute_gradients(self, batches: list[dict[str, Any]]) -> list[MicroBatch]:
        """Those of a step's micro-batches, added to what parameters have."""
        state = self.state
        step = Step(state.step, state.total_steps, self._generator(state.step))
        micro_batches: list[MicroBatch] = []
        for number, batch in enumerate(batches, 1):
            stands_in = batch.pop(STANDS_IN, False)
            image_ids = [int(label["image_id"]) for label in batch["labels"]]
            batch = self._on_device(batch)
            # Processes exchange gradients once a step.
            with self.model.gradients_kept(number < len(batches)), standing_in(stands_in):
                with self.updater.autocast():
                    loss, parts = self.task(self.model.called, batch, step)
                if stands_in:
                    loss, parts = loss * 0, {name: part * 0 for name, part in parts.items()}
                self.updater.backward(loss / len(batches))
            parts = {name: part.detach() for name, part in parts.items()}
            micro_batches.append(MicroBatch(image_ids, loss.detach(), parts))
            self.means.add({"loss": loss.detach(), **parts})
        return micro_batches

    def _save_interrupted(self) -> None:
        if self.measuring:
            said = "interrupted while steps were measured: the run had not begun, and nothing is kept of it"
        else:
            self._log_losses()
            self.save_checkpoint()
            said = f"interrupted after step {self.state.step}; resume goes on from there"
        if self.first:
            logger.info("%s", said)

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = send_to_device(batch, self.device, non_blocking=True)
        if not self.model.channels_last:
            return batch
        pixels = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        return {**batch, "pixel_values": pixels}

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)

    def _stop(self, what: str, micro_batches: list[MicroBatch]) -> NoReturn:
        """Save what can be saved, and say which images and loss parts were at fault."""
        saved = None
        lost = self.measuring or not self.model.is_finite()
        if not any(anywhere(self.accelerator, lost)):
            self.save_checkpoint()
            saved = self.checkpointer.folder(self.state)
        raise FocusDetrError(not_finite(what, self.state.step, micro_batches, self.image_paths, saved))

    # Logging and evaluation

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.state)

    def _log(self, row: dict[str, float]) -> None:
        self.state.history.append({"step": self.state.step, "epoch": self.state.epoch, **row})
        self._tell("on_log")

    def _log_losses(self) -> None:
        row, last, speed = self.means.collect(self.recipe.batch_size / self.recipe.micro_batches)
        if row:
            self._log(mean_of_all(self.accelerator, row) | last | speed)

    def _evaluate_if_due(self) -> None:
        """Log the numbers as ``eval_...``, and keep the model of the highest AP, of masks where there are
        any, in ``best/``."""
        epoch, every = round(self.state.epoch), self.recipe.eval_interval
        last = self.state.step >= self.state.total_steps
        if self.evaluator is None or not (last or (every and epoch % every == 0)):
            return
        self.evaluating = True
        metrics = evaluate_together(self.evaluator, self.model.finished(), self.accelerator)
        self.evaluating = False
        ap = metrics.get("mask_AP", metrics["AP"])
        if self.state.best_ap is None or ap > self.state.best_ap:
            self.state.best_ap, self.state.best_step = ap, self.state.step
            self.save_trained_model(self.output / "best")
        self._log({f"eval_{name}": value for name, value in metrics.items()})
        self._tell("on_evaluate")
        self.means.restart_clock()

    # Saving and going on

    def save_trained_model(self, folder: Path) -> None:
        """Write the finished model (`DistributedModel.finished`) as a folder ``from_pretrained`` loads."""
        model = self.model.finished()
        if self.first:
            with replaced_folder(folder) as writing:
                save_model(model, self.image_processor, writing)

    def save_checkpoint(self) -> None:
        self.checkpointer.save(self.state)

    def restore(self, checkpoint: Path) -> None:
        """Go on where the run stood that wrote ``checkpoint``; see `Checkpointer.restore`."""
        self.state = self.checkpointer.restore(checkpoint, self.state)

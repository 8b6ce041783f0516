"""The training loop: epochs of steps of micro-batches, evaluated, logged and saved in between."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.training.checkpoints import replaced_folder
from focus_detr.training.ema import build_ema
from focus_detr.training.evaluating import Evaluator, evaluate_together
from focus_detr.training.failures import MicroBatch, not_finite
from focus_detr.training.interruption import Interruption, in_worker, interruptions
from focus_detr.training.means import Means
from focus_detr.training.monitoring import Callback
from focus_detr.training.optimization import build_optimizer, learning_rate_factor
from focus_detr.training.processes import anywhere, mean_of_all
from focus_detr.training.recipe import Recipe
from focus_detr.training.sampling import EpochBatchSampler, PlainDataLoader
from focus_detr.training.saving import Checkpointer, save_quietly
from focus_detr.training.state import TrainingState
from focus_detr.training.tasks import Step, Task

logger = logging.getLogger(__name__)

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


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

        self.sampler = EpochBatchSampler(
            dataset,
            recipe.batch_size // recipe.gradient_accumulation,
            recipe.seed,
            accelerator.process_index,
            accelerator.num_processes,
            recipe.gradient_accumulation,
        )
        steps_per_epoch = math.ceil(len(self.sampler) / recipe.gradient_accumulation)
        total = recipe.max_steps or steps_per_epoch * (recipe.epochs or 1)
        self.state = TrainingState(total, steps_per_epoch)

        if recipe.channels_last:
            _to_channels_last(model)
        self.ema = None
        self.plain_model = model.to(self.device)
        if recipe.ema_decay:
            self.ema = build_ema(self.plain_model, recipe.ema_decay, recipe.ema_warmup * total)
        optimizer = build_optimizer(self.plain_model, recipe, self.device)
        factor = learning_rate_factor(recipe, total, total / (recipe.epochs or 1))
        self.schedule = LambdaLR(optimizer, factor)
        self.model, self.optimizer = accelerator.prepare(self.plain_model, optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.means = Means()
        self.checkpointer = Checkpointer(
            accelerator,
            output / "checkpoints",
            self.model,
            {
                "optimizer.pt": self.optimizer,
                "scheduler.pt": self.schedule,
                "ema.pt": self.ema,
                "scaler.pt": self.scaler if self.scaler.is_enabled() else None,
                "task.pt": task if task.state_dict() else None,
            },
            image_processor,
        )

    @property
    def trained_model(self) -> PreTrainedModel:
        """What is evaluated and kept: the averaged weights, where there are any."""
        return cast(PreTrainedModel, self.ema.module if self.ema is not None else self.plain_model)

    @property
    def ended(self) -> bool:
        patience = self.recipe.patience
        impatient = patience is not None and self.state.evaluations_since_best() >= patience
        return impatient or self.state.step >= self.state.total_steps

    # Steps

    def run(self) -> None:
        """Train until the recipe says to stop."""
        state, recipe = self.state, self.recipe
        self.model.train()
        self._tell("on_start")
        try:
            with interruptions() as interruption:
                while not self.ended:
                    for batches in self._steps_of_epoch():
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

    def _steps_of_epoch(self) -> Iterator[list[dict[str, Any]]]:
        """What is left of the state's epoch: the micro-batches of each of its steps."""
        epoch, done = divmod(self.state.step, self.state.steps_per_epoch)
        accumulation = self.recipe.gradient_accumulation
        self.sampler.set_epoch(epoch)
        loader = PlainDataLoader(
            self.dataset,
            batch_sampler=list(self.sampler)[done * accumulation :],
            collate_fn=self.collator,
            num_workers=self.recipe.workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=in_worker,
            # Of its own: a resumed run must not draw a seed for its workers from the model's generator.
            generator=torch.Generator().manual_seed(self.recipe.seed),
        )
        batches = iter(loader)
        while step := list(islice(batches, accumulation)):
            yield step

    def _step(self, batches: list[dict[str, Any]], interruption: Interruption) -> None:
        """One optimiser step."""
        state = self.state
        step = Step(state.step, state.total_steps, self._generator(state.step))
        seen: list[MicroBatch] = []
        for number, batch in enumerate(batches, 1):
            image_ids = [int(label["image_id"]) for label in batch["labels"]]
            batch = send_to_device(batch, self.device, non_blocking=True)
            if self.recipe.channels_last:
                pixels = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
                batch = {**batch, "pixel_values": pixels}
            # Processes exchange gradients once a step.
            wait = (
                contextlib.nullcontext() if number == len(batches) else self.accelerator.no_sync(self.model)
            )
            with wait:
                with self._autocast():
                    loss, parts = self.task(self.model, batch, step)
                self.scaler.scale(loss / len(batches)).backward()
            parts = {name: part.detach() for name, part in parts.items()}
            seen.append(MicroBatch(image_ids, loss.detach(), parts))
            self.means.add({"loss": loss.detach(), **parts})

        self.scaler.unscale_(self.optimizer)
        limit = self.recipe.clip_gradient or math.inf
        norm = torch.as_tensor(self.accelerator.clip_grad_norm_(self.model.parameters(), limit))
        # fp16's loss scaling overflows now and then and skips the step; elsewhere it ruins the weights.
        good_norm = norm.isfinite() | self.scaler.is_enabled()
        good_loss = torch.stack([each.loss.isfinite().all() for each in seen]).all()
        # The step's one wait for the device.
        losses_good, gradient_good = torch.stack([good_loss, good_norm.to(good_loss.device)]).tolist()
        bad_loss, bad_gradient, stopping = anywhere(
            self.accelerator, not losses_good, not gradient_good, interruption.signal is not None
        )
        if bad_loss or bad_gradient:
            self._stop("the loss" if bad_loss else "the gradient", seen)

        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.means.last("grad_norm", norm)
        self.means.last("learning_rate", self.schedule.get_last_lr()[0])
        if self.scaler.get_scale() >= scale:  # else it skipped the step
            self.schedule.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.plain_model)
        state.step += 1
        self._tell("on_step")
        if stopping:
            self._log_losses()
            self.save_checkpoint()
            logger.info("interrupted after step %s; resume goes on from there", state.step)
            interruption.end()

    def _autocast(self) -> torch.autocast:
        dtype = _AUTOCAST.get(self.recipe.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)

    def _stop(self, what: str, seen: list[MicroBatch]) -> NoReturn:
        """Save what can be saved, and say which images and loss parts were at fault."""
        finite = all(bool(parameter.isfinite().all()) for parameter in self.plain_model.parameters())
        saved = None
        if not any(anywhere(self.accelerator, not finite)):
            self.save_checkpoint()
            saved = self.checkpointer.folder(self.state)
        raise FocusDetrError(not_finite(what, self.state.step, seen, self.image_paths, saved))

    # Logging and evaluation

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.state)

    def _log(self, row: dict[str, float]) -> None:
        self.state.history.append({"step": self.state.step, "epoch": self.state.epoch, **row})
        self._tell("on_log")

    def _log_losses(self) -> None:
        row, last, speed = self.means.take(self.recipe.batch_size / self.recipe.gradient_accumulation)
        if row:
            self._log(mean_of_all(self.accelerator, row) | last | speed)

    def _evaluate_if_due(self) -> None:
        """Log the numbers as ``eval_...``, and keep the model of the highest AP in ``best/``."""
        epoch, every = round(self.state.epoch), self.recipe.eval_interval
        last = self.state.step >= self.state.total_steps
        if self.evaluator is None or not (last or (every and epoch % every == 0)):
            return
        model = self.trained_model
        was_training = model.training
        model.eval()
        self.evaluating = True
        with torch.no_grad():
            metrics = evaluate_together(self.evaluator, model, self.accelerator)
        self.evaluating = False
        model.train(was_training)
        if self.state.best_ap is None or metrics["AP"] > self.state.best_ap:
            self.state.best_ap, self.state.best_step = metrics["AP"], self.state.step
            self.save_trained_model(self.output / "best")
        self._log({f"eval_{name}": value for name, value in metrics.items()})
        self._tell("on_evaluate")
        self.means.restart_clock()

    # Saving and going on

    def save_trained_model(self, folder: Path) -> None:
        """Write `trained_model` as a model folder that ``from_pretrained`` loads."""
        state = None if self.ema is not None else self.accelerator.get_state_dict(self.model)
        if not self.first:
            return
        with replaced_folder(folder) as writing:
            save_quietly(self.trained_model, writing, state)
            if self.image_processor is not None:
                self.image_processor.save_pretrained(writing)

    def save_checkpoint(self) -> None:
        self.checkpointer.save(self.state)

    def restore(self, checkpoint: Path) -> None:
        """Go on where the run stood that wrote ``checkpoint``; see `Checkpointer.restore`."""
        self.state = self.checkpointer.restore(checkpoint, self.state)


def _to_channels_last(model: PreTrainedModel) -> None:
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

"""DetectionTrainer: `transformers.Trainer` for detection, with an averaged model and exact resuming."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import Dataset
from transformers import PreTrainedModel
from transformers.trainer import Trainer
from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from focus_detr.errors import FocusDetrError
from focus_detr.training.arguments import training_arguments
from focus_detr.training.checkpoints import checkpoint_folder, keep_newest, put_in_place, replaced_folder
from focus_detr.training.ema import build_ema
from focus_detr.training.evaluating import Evaluator
from focus_detr.training.monitoring import MetricsTable, Progress, Rhythm, TensorBoard
from focus_detr.training.optimization import learning_rate_factor, parameter_groups
from focus_detr.training.recipe import Recipe
from focus_detr.training.sampling import EpochBatchSampler, EpochDataLoader


class DetectionTrainer(Trainer):
    """Trains a detector by a recipe into a folder.

    Args:
        model: ``forward(pixel_values, pixel_mask, labels)`` gives ``loss`` and ``loss_dict``.
        recipe: see `Recipe`.
        output: folder of the run; checkpoints go to ``checkpoints/``, the best model to ``best/``.
        train_dataset: items that ``collator`` makes batches of; ``set_epoch`` is called where it has one.
        collator: items -> ``{"pixel_values", "pixel_mask", "labels"}``.
        evaluator: model -> numbers, among them ``AP``; None never evaluates.
        image_processor: saved with the model.
        image_paths: file of each ``image_id``, to name the images of a step that fails.
        use_cpu: train on the CPU even where there is something faster.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        recipe: Recipe,
        output: Path,
        train_dataset: Any,
        collator: Callable[[Any], dict[str, Any]],
        evaluator: Evaluator | None = None,
        image_processor: Any = None,
        image_paths: Mapping[int, Path] | None = None,
        use_cpu: bool = False,
    ) -> None:
        self.recipe, self.output, self.evaluator = recipe, output, evaluator
        self.image_processor, self.image_paths = image_processor, image_paths or {}
        self.checkpoints = output / "checkpoints"
        args = training_arguments(recipe, output, use_cpu)
        if recipe.channels_last:
            _to_channels_last(model)
        super().__init__(model=model, args=args, train_dataset=train_dataset, data_collator=collator)
        self.remove_callback(PrinterCallback)
        # The row is in the table before the plot is drawn from it, and the rhythm decides last.
        for callback in (
            AveragedWeights(self),
            MetricsTable(output),
            TensorBoard(output),
            Progress(),
            Rhythm(recipe),
        ):
            self.add_callback(callback)
        self.ema = None
        if recipe.ema_decay:
            self.ema = build_ema(cast(nn.Module, self.model), recipe.ema_decay, recipe.ema_warmup_steps)
        self._part_sums: dict[str, Tensor] = {}
        self._part_count = 0
        self._logged_at, self._logged_step = time.perf_counter(), -1
        self._batch: dict[str, Any] = {}

    @property
    def trained_model(self) -> PreTrainedModel:
        """What is evaluated and kept: the averaged weights, where there are any."""
        return cast(PreTrainedModel, self.ema.module if self.ema is not None else self.model)

    # Data

    def get_train_dataloader(self) -> EpochDataLoader:
        sampler = EpochBatchSampler(
            self.train_dataset,
            self.recipe.batch_size // self.recipe.gradient_accumulation,
            self.recipe.seed,
            self.args.process_index,
            self.args.world_size,
        )
        return EpochDataLoader(
            cast(Dataset[Any], self.train_dataset),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.recipe.workers,
            pin_memory=self.args.device.type == "cuda",
        )

    # Optimisation

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = parameter_groups(model or cast(nn.Module, self.model), self.recipe)
            fused = self.args.device.type in ("cpu", "cuda")
            self.optimizer = torch.optim.AdamW(groups, betas=self.recipe.betas, fused=fused)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LRScheduler:
        if self.lr_scheduler is None:
            steps_per_epoch = num_training_steps / (self.recipe.epochs or 1)
            factor = learning_rate_factor(self.recipe, num_training_steps, steps_per_epoch)
            # accelerate wraps the optimiser; the schedule wants torch's own.
            inner = getattr(optimizer or self.optimizer, "optimizer", optimizer or self.optimizer)
            self.lr_scheduler = LambdaLR(cast(torch.optim.Optimizer, inner), factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        self._batch = inputs
        if self.recipe.channels_last:
            pixels = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
            inputs = {**inputs, "pixel_values": pixels}
        outputs = model(**inputs)
        parts = {name: part.detach() for name, part in outputs["loss_dict"].items()}
        if not self._everywhere(bool(torch.isfinite(outputs["loss"]))):
            self._stop("the loss", parts)
        for name, part in parts.items():
            self._part_sums[name] = self._part_sums[name] + part if name in self._part_sums else part
        self._part_count += 1
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        norm = super()._clip_grad_norm(model)
        # fp16's loss scaling overflows now and then and skips the step; elsewhere it ruins the weights.
        if self.recipe.precision != "fp16" and not bool(torch.isfinite(torch.as_tensor(norm))):
            self._stop("the gradient", {})
        return norm

    def _everywhere(self, good: bool) -> bool:
        """Whether it is good in all processes, so that all of them stop together."""
        if self.args.world_size == 1:
            return good
        flag = torch.tensor(float(good), device=self.args.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
        return bool(flag)

    def _stop(self, what: str, parts: Mapping[str, Tensor]) -> NoReturn:
        """Save what can be saved, and say which images and loss parts were at fault."""
        images = []
        for label in self._batch.get("labels", []):
            image_id = int(label["image_id"])
            images.append(f"{image_id} ({self.image_paths.get(image_id, 'path unknown')})")
        if self._everywhere(all(bool(p.isfinite().all()) for p in cast(nn.Module, self.model).parameters())):
            self.save_checkpoint()
            folder = checkpoint_folder(self.checkpoints, self.state.global_step)
            saved = f"The weights before this step are in {folder}."
        else:
            saved = "The weights were not finite any more; earlier checkpoints are kept."
        values = ", ".join(f"{name}={float(value):.6g}" for name, value in parts.items())
        raise FocusDetrError(
            f"{what} is not finite at step {self.state.global_step}; images: {', '.join(images)}"
            f"{'; loss parts: ' + values if values else ''}. {saved} "
            "Look at these images and their boxes, lower learning_rate, or use precision: fp32."
        )

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._mean_parts())
            now, steps = time.perf_counter(), self.state.global_step - self._logged_step
            if self._logged_step >= 0:
                logs["images_per_second"] = round(steps * self.recipe.batch_size / (now - self._logged_at), 3)
            self._logged_at, self._logged_step = now, self.state.global_step
        super().log(logs, start_time)

    def _mean_parts(self) -> dict[str, float]:
        means = {name: float(total) / self._part_count for name, total in self._part_sums.items()}
        self._part_sums, self._part_count = {}, 0
        if self.args.world_size == 1:
            return means
        gathered: list[dict[str, float]] = [{} for _ in range(self.args.world_size)]
        torch.distributed.all_gather_object(gathered, means)
        names = dict.fromkeys(name for each in gathered for name in each)
        return {name: sum(each.get(name, 0.0) for each in gathered) / len(gathered) for name in names}

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate `trained_model`, log the numbers as ``eval_...``, keep the best AP's in ``best/``."""
        if self.evaluator is None:
            return {}
        found: list[dict[str, float]] = [{}]
        if self.args.process_index == 0:
            model = self.trained_model
            was_training = model.training
            model.eval()
            with torch.no_grad():
                found = [{f"eval_{name}": float(value) for name, value in self.evaluator(model).items()}]
            model.train(was_training)
        if self.args.world_size > 1:
            torch.distributed.broadcast_object_list(found)
        metrics = found[0]
        if self.state.best_metric is None or metrics["eval_AP"] > self.state.best_metric:
            self.state.best_metric, self.state.best_global_step = metrics["eval_AP"], self.state.global_step
            self.save_trained_model(self.output / "best")
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._logged_at = time.perf_counter()
        return metrics

    # Saving and resuming

    def save_trained_model(self, folder: Path) -> None:
        """Write `trained_model` as a model folder that ``from_pretrained`` loads."""
        if not self.args.should_save:
            return
        with replaced_folder(folder) as writing:
            _save_quietly(self.trained_model, writing)
            if self.image_processor is not None:
                self.image_processor.save_pretrained(writing)

    def save_checkpoint(self) -> None:
        """Everything that continuing needs, in one folder that appears only when it is complete."""
        folder = checkpoint_folder(self.checkpoints, self.state.global_step)
        if folder.exists():
            return  # a step that fails right after its checkpoint
        writing = folder.with_name(f".{folder.name}.writing")
        if self.args.should_save:
            keep_newest(self.checkpoints)  # clears what an earlier run left half written
            writing.mkdir(parents=True)
        self._wait()
        self._save_rng_state(str(writing))
        if self.args.should_save:
            _save_quietly(cast(PreTrainedModel, self.model), writing)
            if self.image_processor is not None:
                self.image_processor.save_pretrained(writing)
            if self.ema is not None:
                torch.save(self.ema.state_dict(), writing / "ema.pt")
            self._save_optimizer_and_scheduler(str(writing))
            self._save_scaler(str(writing))
            self.state.save_to_json(str(writing / "trainer_state.json"))
        self._wait()
        if self.args.should_save:
            put_in_place(writing, folder, folder.with_name(f".{folder.name}.old"))
            keep_newest(self.checkpoints)
        self._wait()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.save_checkpoint()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.ema is not None:
            self._load_ema(Path(checkpoint))

    def restore(self, checkpoint: Path, state: TrainerState) -> None:
        """Take over the weights and the record of a run that has ended."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        if self.ema is not None:
            self._load_ema(checkpoint)

    def _load_ema(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / "ema.pt", map_location=self.args.device, weights_only=True)
        cast(nn.Module, self.ema).load_state_dict(state)

    def _wait(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()


class AveragedWeights(TrainerCallback):
    """Moves the trainer's averaged weights along after each optimiser step."""

    def __init__(self, trainer: DetectionTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.trainer.ema is not None:
            self.trainer.ema.update_parameters(cast(nn.Module, self.trainer.model))


def _to_channels_last(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _save_quietly(model: PreTrainedModel, folder: Path) -> None:
    """save_pretrained without its own progress bar, which would break into the run's."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            enable_progress_bar()

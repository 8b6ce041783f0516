"""What a run shows while it goes: metrics.csv, curves.png, TensorBoard, a progress bar."""

from __future__ import annotations

import csv
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from focus_detr.training.recipe import Recipe

logger = logging.getLogger(__name__)

_FIRST_COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "eval_AP", "eval_AP50", "eval_AP75")
_ENDING = {"train_runtime", "total_flos", "train_loss"}


class Rhythm(TrainerCallback):
    """When to evaluate, save and stop: by epochs, every ``checkpoint_steps``, after ``patience``."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        every = self.recipe.checkpoint_steps
        # The end of an epoch saves after its evaluation, or a run killed between them would miss that one.
        at_end = control.should_training_stop or float(state.epoch or 0).is_integer()
        if every and state.global_step % every == 0 and not at_end:
            # A row of losses ends at each checkpoint: the averages of a resumed run start afresh there.
            control.should_save = control.should_log = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_save = control.should_log = True
        every = self.recipe.eval_interval
        last = control.should_training_stop or state.global_step >= state.max_steps
        control.should_evaluate = last or bool(every and round(state.epoch or 0) % every == 0)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if out_of_patience(state, self.recipe):
            logger.info("no better AP in %s evaluations: stopping early", self.recipe.patience)
            control.should_training_stop = True


def out_of_patience(state: TrainerState, recipe: Recipe) -> bool:
    evaluated = [row["step"] for row in state.log_history if "eval_AP" in row]
    since_best = sum(step > (state.best_global_step or 0) for step in evaluated)
    return recipe.patience is not None and since_best >= recipe.patience


class MetricsTable(TrainerCallback):
    """``metrics.csv``: one row for each stretch of ``log_steps`` and each evaluation, and ``curves.png``."""

    def __init__(self, folder: Path) -> None:
        self.csv, self.curves = folder / "metrics.csv", folder / "curves.png"
        self.columns: list[str] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._rewrite(state)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or _ENDING & state.log_history[-1].keys():
            return
        row = state.log_history[-1]
        if row.keys() - set(self.columns):
            self._rewrite(state)
        else:
            with self.csv.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._plot(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._plot(state)

    def _rewrite(self, state: TrainerState) -> None:
        rows = [row for row in state.log_history if not _ENDING & row.keys()]
        names = {name for row in rows for name in row}
        self.columns = [name for name in _FIRST_COLUMNS if name in names]
        self.columns += sorted(name for name in names if name not in _FIRST_COLUMNS)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        if self.columns:
            writer.writeheader()
        writer.writerows(rows)
        writing = self.csv.with_name(".metrics.csv.writing")
        writing.write_text(text.getvalue(), encoding="utf-8", newline="")
        os.replace(writing, self.csv)

    def _plot(self, state: TrainerState) -> None:
        from focus_detr.training.curves import plot_curves

        if state.is_world_process_zero:
            plot_curves(state.log_history, self.curves)


class TensorBoard(TrainerCallback):
    """Every logged number as a TensorBoard curve, where TensorBoard is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        self.writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("TensorBoard is not installed: curves are in metrics.csv and curves.png only")
            return
        # A resumed run draws over what the killed one wrote after its last checkpoint.
        self.writer = SummaryWriter(str(self.folder), purge_step=state.global_step or None)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.writer is None:
            return
        for name, value in state.log_history[-1].items():
            if name not in ("step", "epoch") and isinstance(value, (int, float)):
                tag = f"evaluation/{name[5:]}" if name.startswith("eval_") else f"training/{name}"
                self.writer.add_scalar(tag, value, state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.writer is not None:
            self.writer.close()


class Progress(TrainerCallback):
    """A bar of steps with the last loss and AP; where there is no terminal, lines with every part."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and sys.stderr.isatty():
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or _ENDING & state.log_history[-1].keys():
            return
        row = state.log_history[-1]
        names = [name for name in row if name.startswith(("loss", "eval_AP"))]
        main = [name for name in names if not name[-1].isdigit() or name in _FIRST_COLUMNS]
        # More would push the average precision off most terminals.
        self.shown |= {name: f"{row['eval_' + name]:.3f}" for name in ("AP", "AP50") if f"eval_{name}" in row}
        if "loss" in row:
            self.shown["loss"] = f"{row['loss']:.4g}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown, refresh=False)
        else:
            values = " ".join(f"{name.removeprefix('eval_')}={row[name]:.4g}" for name in main)
            line = f"step {row['step']}/{state.max_steps} epoch {row['epoch']:.2f} {values}"
            print(line, file=sys.stderr, flush=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.bar is not None:
            self.bar.close()

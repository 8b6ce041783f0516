"""What a run shows while it goes: metrics.csv, curves.png, TensorBoard, a progress bar."""

from __future__ import annotations

import csv
import io
import logging
import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from focus_detr.folders import whole_file
from focus_detr.training.state import TrainingState

logger = logging.getLogger(__name__)

_FIRST_COLUMNS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "eval_AP", "eval_AP50", "eval_AP75")


class Callback:
    """Told of what happens in a run, in its first process alone, after the state says so."""

    def on_start(self, state: TrainingState) -> None: ...

    def on_step(self, state: TrainingState) -> None: ...

    def on_log(self, state: TrainingState) -> None:
        """The newest row is the last of ``state.history``."""

    def on_evaluate(self, state: TrainingState) -> None: ...

    def on_end(self, state: TrainingState) -> None:
        """Also where the run fails."""


class MetricsTable(Callback):
    """``metrics.csv``: one row for each stretch of ``log_steps`` and each evaluation, and ``curves.png``."""

    def __init__(self, folder: Path) -> None:
        self.csv, self.curves = folder / "metrics.csv", folder / "curves.png"
        self.columns: list[str] = []

    def on_start(self, state: TrainingState) -> None:
        self._rewrite(state)

    def on_log(self, state: TrainingState) -> None:
        row = state.history[-1]
        if row.keys() - set(self.columns):
            self._rewrite(state)
        else:
            with self.csv.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def on_evaluate(self, state: TrainingState) -> None:
        self._plot(state)

    def on_end(self, state: TrainingState) -> None:
        self._plot(state)

    def _rewrite(self, state: TrainingState) -> None:
        rows = state.history
        names = {name for row in rows for name in row}
        self.columns = [name for name in _FIRST_COLUMNS if name in names]
        self.columns += sorted(name for name in names if name not in _FIRST_COLUMNS)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        if self.columns:
            writer.writeheader()
        writer.writerows(rows)
        with whole_file(self.csv) as stream:
            stream.write(text.getvalue().encode())

    def _plot(self, state: TrainingState) -> None:
        from focus_detr.training.curves import plot_curves

        plot_curves(state.history, self.curves)


class TensorBoard(Callback):
    """Every logged number as a TensorBoard curve, where TensorBoard is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        self.writer: Any = None

    def on_start(self, state: TrainingState) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("TensorBoard is not installed: curves are in metrics.csv and curves.png only")
            return
        # A resumed run draws over what the killed one wrote after its last checkpoint.
        self.writer = SummaryWriter(str(self.folder), purge_step=state.step or None)

    def on_log(self, state: TrainingState) -> None:
        if self.writer is None:
            return
        for name, value in state.history[-1].items():
            if name not in ("step", "epoch") and isinstance(value, (int, float)):
                tag = f"evaluation/{name[5:]}" if name.startswith("eval_") else f"training/{name}"
                self.writer.add_scalar(tag, value, state.step)

    def on_end(self, state: TrainingState) -> None:
        if self.writer is not None:
            self.writer.close()


class Progress(Callback):
    """A bar of steps with the last loss and AP; where there is no terminal, lines with every part."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.shown: dict[str, str] = {}

    def on_start(self, state: TrainingState) -> None:
        if sys.stderr.isatty():
            self.bar = tqdm(total=state.total_steps, initial=state.step, unit="step", dynamic_ncols=True)

    def on_step(self, state: TrainingState) -> None:
        if self.bar is not None:
            self.bar.update(state.step - self.bar.n)

    def on_log(self, state: TrainingState) -> None:
        row = state.history[-1]
        names = [name for name in row if name.startswith(("loss", "eval_AP"))]
        main = [name for name in names if not name[-1].isdigit() or name in _FIRST_COLUMNS]
        # More would push the average precision off most terminals.
        self.shown |= {
            name: f"{row['eval_' + name]:.3f}" for name in ("AP", "AP50", "mask_AP") if f"eval_{name}" in row
        }
        if "loss" in row:
            self.shown["loss"] = f"{row['loss']:.4g}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown, refresh=False)
        else:
            values = " ".join(f"{name.removeprefix('eval_')}={row[name]:.4g}" for name in main)
            line = f"step {row['step']}/{state.total_steps} epoch {row['epoch']:.2f} {values}"
            print(line, file=sys.stderr, flush=True)

    def on_end(self, state: TrainingState) -> None:
        if self.bar is not None:
            self.bar.close()

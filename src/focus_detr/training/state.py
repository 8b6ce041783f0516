"""How far a run has come: what callbacks look at, and a checkpoint keeps as ``trainer_state.json``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.training.checkpoints import way_out

FILE = "trainer_state.json"


@dataclasses.dataclass
class TrainingState:
    """Counters and log of a run."""

    total_steps: int
    steps_per_epoch: int
    step: int = 0
    """Optimiser steps done."""
    best_ap: float | None = None
    best_step: int = 0
    """Of the evaluation with the highest AP so far."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The rows of ``metrics.csv``: ``step``, ``epoch``, named numbers; an evaluation's as ``eval_...``."""

    @property
    def epoch(self) -> float:
        return self.step / self.steps_per_epoch

    def evaluations_since_best(self) -> int:
        return sum("eval_AP" in row and row["step"] > self.best_step for row in self.history)

    def best_metrics(self) -> dict[str, float]:
        """Numbers of the evaluation with the highest AP; empty where there was none."""
        for row in self.history:
            if row["step"] == self.best_step and "eval_AP" in row:
                return {name.removeprefix("eval_"): row[name] for name in row if name.startswith("eval_")}
        return {}

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TrainingState:
        """Raises `FocusDetrError` where the file is not one that `save` wrote."""
        try:
            values = json.loads((folder / FILE).read_text(encoding="utf-8"))
            state = cls(**values)
            state.step, state.best_step = int(state.step), int(state.best_step)
            if not state.steps_per_epoch > 0 or not all("step" in row for row in state.history):
                raise ValueError("steps_per_epoch or history are none of a run's")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise FocusDetrError(
                f"{folder / FILE}: missing, damaged, or of another version ({error}). {way_out(folder)}"
            ) from error
        return state

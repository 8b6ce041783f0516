"""Measures some steps and part of an evaluation on this machine, to fit a run to a budget of time."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from focus_detr.training.assembly import Assembly
from focus_detr.training.evaluating import CocoEvaluator, Evaluator, evaluate_together
from focus_detr.training.failures import memory_advice
from focus_detr.training.monitoring import Callback, MetricsTable
from focus_detr.training.processes import from_first
from focus_detr.training.recipe import Recipe
from focus_detr.training.sharding import sharding_advice
from focus_detr.training.state import TrainingState
from focus_detr.training.time_budget import Costs, fitted, seconds_of

if TYPE_CHECKING:
    from focus_detr.training.loop import TrainingLoop

_WARMING, _MEASURED = 2, 20  # steps: the first ones choose kernels and fill caches
_MEASURING = 0.05  # share of the budget after which a measurement ends early
_EVALUATED_BATCHES = 3


def fit_to_time(
    assembly: Assembly, model: str | Path | PreTrainedModel, recipe: Recipe, output: Path, time: str
) -> Recipe:
    """The recipe of the length that fits into ``time``, by some steps of a run that is then thrown away.

    Nothing of it reaches the run itself: that is assembled anew, from the same seed.
    """
    accelerator = assembly.accelerator
    # Several processes end together, after a number of steps that all of them know.
    stopwatch = Stopwatch(_MEASURING * seconds_of(time) if accelerator.num_processes == 1 else None)
    measured = recipe.replace({"max_steps": _WARMING + _MEASURED, "checkpoint_steps": None})
    with _set_aside(output / ".measuring", accelerator) as folder:
        loop, _ = assembly.loop(copy.deepcopy(model), measured, folder, (MetricsTable(folder), stopwatch))
        with memory_advice(measured, loop), sharding_advice():
            costs = _measure(loop, stopwatch)
        images, steps_per_epoch = len(loop.dataset), loop.state.steps_per_epoch
        del loop
        accelerator.free_memory()
    return fitted(recipe, time, costs, steps_per_epoch, images)


class Stopwatch(Callback):
    """Measures the steps of a loop, which it ends once they are enough.

    Args:
        limit: seconds after which three steps are enough; None always measures all.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.times: list[float] = []
        """At the start, then after each step."""
        self.ended = 0.0

    def on_start(self, state: TrainingState) -> None:
        self.times = [perf_counter()]

    def on_step(self, state: TrainingState) -> None:
        self.times.append(perf_counter())
        late = self.limit is not None and self.times[-1] - self.times[0] > self.limit
        if late and state.step > _WARMING:
            state.total_steps = state.step

    def on_end(self, state: TrainingState) -> None:
        self.ended = perf_counter()

    def costs(self, steps_per_epoch: int) -> tuple[float, float]:
        """Seconds of a step, and of an epoch's end."""
        took = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        after_turn = [step for step in range(1, len(took)) if step % steps_per_epoch == 0]
        plain = [took[step] for step in range(_WARMING, len(took)) if step not in after_turn]
        plain = plain or took[_WARMING:]
        step = max(sum(plain) / len(plain), 1e-6)
        turns = [took[step] for step in after_turn]
        last = self.ended - self.times[-1]
        turn = sum(turns) / len(turns) - step if turns else last
        return step, max(turn, 0.0)


@contextmanager
def _set_aside(folder: Path, accelerator: Accelerator) -> Iterator[Path]:
    """A folder for what a measurement writes, of which nothing stays."""
    parent_was_there = folder.parent.exists()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            if not parent_was_there and folder.parent.exists() and not any(folder.parent.iterdir()):
                folder.parent.rmdir()


def _measure(loop: TrainingLoop, stopwatch: Stopwatch) -> Costs:
    """Run a loop that is there for it alone, told to ``stopwatch``, and a part of an evaluation."""
    start = perf_counter()
    loop.measuring = True
    evaluator, loop.evaluator = loop.evaluator, None
    loop.run()
    loop.evaluating = True  # of which an error tells, if memory runs out
    evaluation = 0.0
    if evaluator is not None:
        evaluation = _evaluation_seconds(evaluator, loop) + _keeping_seconds(loop)
    step, turn = stopwatch.costs(loop.state.steps_per_epoch) if loop.first else (0.0, 0.0)
    not_measured = (_WARMING + _MEASURED - loop.state.step) * step
    costs = Costs(step, turn, evaluation, perf_counter() - start, not_measured)
    return from_first(loop.accelerator, costs)


def _evaluation_seconds(evaluator: Evaluator, loop: TrainingLoop) -> float:
    """Of a whole evaluation; COCO's by a few batches."""
    model = loop.model.finished()

    def seconds(of: Evaluator) -> float:
        start = perf_counter()
        evaluate_together(of, model, loop.accelerator)
        return perf_counter() - start

    if not isinstance(evaluator, CocoEvaluator):
        return seconds(evaluator)
    batches, count = evaluator.batches, 1 + _EVALUATED_BATCHES
    share = math.ceil(len(batches) / loop.accelerator.num_processes)
    few = [batches[len(batches) * place // count] for place in range(min(count, len(batches)))]
    seconds(_finding(evaluator, few[:1]))  # warms up
    one = seconds(_finding(evaluator, few[:1]))  # with what it takes to start reading
    more = seconds(_finding(evaluator, few))
    each = max(0.0, more - one) / max(1, len(few) - 1)
    return one + each * (share - 1)


def _keeping_seconds(loop: TrainingLoop) -> float:
    """Of what follows an evaluation: the best model is saved, curves are drawn."""
    start = perf_counter()
    loop.save_trained_model(loop.output / "best")
    for callback in loop.callbacks:
        callback.on_evaluate(loop.state)
    return perf_counter() - start


def _finding(evaluator: CocoEvaluator, batches: list[list[int]]) -> Evaluator:
    """Detects in some of the batches, in the first process, and measures nothing of what it finds."""
    part = copy.copy(evaluator)
    part.batches = batches

    def find(model: Any) -> dict[str, float]:
        part.find(model)
        return {}

    return find

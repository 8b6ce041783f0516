"""A budget of training time, and the length of a run that fits into it."""

from __future__ import annotations

import bisect
import dataclasses
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import Recipe

logger = logging.getLogger(__name__)

_FEWEST_STEPS = 100  # that make a training; fewer are hardly out of the warm-up of the averaged weights
_EVALUATING = 0.25  # share of the budget that evaluations take at most, but for the last
_PLANNED = 0.95  # share of what is left that is planned for: the rest is what was not measured


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds that the parts of a run take on this machine."""

    step: float
    turn: float
    """From one epoch to the next: checkpoint, and new processes that read images."""
    evaluation: float
    spent: float
    """By the measurement, which is part of the budget."""
    not_measured: float
    """What a longer budget would spend on the measurement besides."""

    def seconds(self, steps: int, steps_per_epoch: int, eval_interval: int, recipe: Recipe) -> float:
        """Of a run of so many steps."""
        checkpoints = math.ceil(steps / steps_per_epoch)
        if recipe.checkpoint_steps:
            checkpoints += steps // recipe.checkpoint_steps
        evaluations = count_evaluations(steps, steps_per_epoch, eval_interval)
        return steps * self.step + checkpoints * self.turn + evaluations * self.evaluation


def seconds_of(time: str) -> float:
    """``20m``, ``1h30m`` or ``90s`` in seconds.

    Raises:
        FocusDetrError: it is none of these.
    """
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", str(time).strip())
    try:
        hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    except ValueError:
        hours = minutes = seconds = 0.0
    total = 3600 * hours + 60 * minutes + seconds
    if not total > 0:
        raise FocusDetrError(f"time={time!r}: must be a length of time as in 20m, 1h30m or 90s")
    return total


def in_words(seconds: float) -> str:
    """Rounded up, as `seconds_of` reads it."""
    whole = math.ceil(seconds / 10) * 10 if seconds < 600 else math.ceil(seconds / 60) * 60
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def refuse_length(time: str, overrides: Mapping[str, Any] | None) -> None:
    """Raise `FocusDetrError` where ``time`` is no length of time, or a length is given besides."""
    seconds_of(time)
    for key in ("epochs", "max_steps"):
        if (value := (overrides or {}).get(key)) is not None:
            raise FocusDetrError(f"time={time!r}, {key}={value!r}: both say how long to train; leave out one")


def as_continued(chosen: Recipe, saved: Recipe, time: str, run: str | Path | None) -> Recipe:
    """The recipe of a run that is resumed with a budget: of the length it was fitted to at its start.

    Raises:
        FocusDetrError: the run in ``run`` was not fitted to the same budget.
    """
    if saved.fitted_to is None or seconds_of(saved.fitted_to) != seconds_of(time):
        was = f"fitted to {saved.fitted_to}" if saved.fitted_to else "not fitted to a budget of time"
        raise FocusDetrError(
            f"{run}: time={time!r}: the run was {was} when it started, and goes on so; leave time out"
        )
    kept = ("epochs", "max_steps", "lr_drops", "eval_interval", "fitted_to")
    return dataclasses.replace(chosen, **{name: getattr(saved, name) for name in kept})


def count_evaluations(steps: int, steps_per_epoch: int, eval_interval: int) -> int:
    """Of a run: at every so many epochs' ends, and at its end."""
    if not eval_interval:
        return 1
    return math.ceil(steps / (steps_per_epoch * eval_interval))


def fitted(recipe: Recipe, time: str, costs: Costs, steps_per_epoch: int, images: int) -> Recipe:
    """The recipe with the most steps that fit into a budget of time.

    ``lr_drops`` keep their shares of the run. Where evaluations would take more than a quarter of the
    budget, there are fewer of them.

    Args:
        steps_per_epoch: optimiser steps of a pass over the data.
        images: that are learned.

    Raises:
        FocusDetrError: there is no time for 100 steps and an evaluation.
    """
    budget = seconds_of(time)
    left = _PLANNED * (budget - costs.spent)

    def most_steps(eval_interval: int) -> int:
        return bisect.bisect_right(
            range(1, max(1, int(left / costs.step)) + 1),
            left,
            key=lambda steps: costs.seconds(steps, steps_per_epoch, eval_interval, recipe),
        )

    steps, interval = most_steps(0), recipe.eval_interval
    if steps < _FEWEST_STEPS:
        needed = costs.seconds(_FEWEST_STEPS, steps_per_epoch, 0, recipe) / _PLANNED
        needed += costs.spent + costs.not_measured
        raise FocusDetrError(
            f"time={time!r}: too short: on this machine a step of {recipe.batch_size} images takes "
            f"{costs.step:.3g} s and an evaluation {costs.evaluation:.3g} s; give "
            f"{in_words(needed)} at least, which are {_FEWEST_STEPS} steps and one evaluation, or make steps "
            "cheaper: a smaller shortest_edge and longest_edge, batch_size, or model"
        )
    if interval:
        allowed = max(1, int(_EVALUATING * left / costs.evaluation)) if costs.evaluation else steps
        interval = max(interval, math.ceil(steps / steps_per_epoch / allowed))
        steps = most_steps(interval)
    chosen = recipe.replace({"max_steps": steps, "eval_interval": interval, "fitted_to": time})
    evaluations = count_evaluations(steps, steps_per_epoch, interval) if costs.evaluation else 0
    logger.info(
        "%s of training: %s steps of %s images, %.3g passes over %s images, evaluations: %s (measured in "
        "%.3g s: %.3g s a step, %.3g s an evaluation)",
        time,
        steps,
        recipe.batch_size,
        steps / steps_per_epoch,
        images,
        evaluations,
        costs.spent,
        costs.step,
        costs.evaluation,
    )
    return chosen

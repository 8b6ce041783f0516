"""Deadlines: the largest budget that meets a latency, picture by picture.

The cost curve says what each budget took when it was measured. How fast the machine is now is another matter:
others use it, it grows hot. So one number is kept, the pace: how many times as long as measured a picture
takes now. It starts at 1, and after each picture goes a quarter of the way to what that picture took,

    log pace += 1/4 * clip(log(taken / (pace * measured)), -log 2, log 2)

The next budget is the largest whose measured time, times the pace, fits what is left of the deadline once the
picture has been resized. The pace is about the machine and not about the budget: choosing another budget does
not move what it is compared with, and so it cannot swing. After a change of the machine's speed it is within
a tenth in seven pictures; one slow picture moves it by a fifth at most.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.inference.costs import CostCurve, Costs, Size
from focus_detr.structures.auto_budget import AutoBudget
from focus_detr.structures.budget import AUTO, SMALLEST, Budget

logger = logging.getLogger(__name__)

GAIN = 0.25
_LARGEST_SURPRISE = math.log(2)


class DeadlineKeeper:
    """Chooses the budgets of one stream of pictures; not for several threads at once.

    Args:
        seconds: for one picture, from the picture in memory to its detections.
        most: the largest budget chosen, however much time there is; to be set before the first is chosen.
        few: choose among those alone that were measured.
    """

    def __init__(self, costs: Costs, seconds: float, most: float | None, few: bool = False) -> None:
        self.costs, self.seconds, self.most, self.few = costs, seconds, most, few
        self.pace = 1.0
        self.started = False
        self._missed = False

    def start(self, size: Size, spent: float) -> None:
        """Begin with pictures of ``size`` (height, width), of which resizing takes ``spent`` seconds.

        Raises:
            FocusDetrError: the deadline cannot be met for them. Of a picture that comes later and is larger,
                it is only said: it has the smallest budget.
        """
        check_deadline(self.costs.of(size), self.seconds, size, spent)
        self.started = True

    def choose(self, size: Size, spent: float) -> Budget:
        """The budget of a picture of ``size`` that has taken ``spent`` seconds so far."""
        assert self.most is not None
        curve = self.costs.of(size)
        share = curve.largest_within((self.seconds - spent) / self.pace)
        if share is None and not self._missed:
            self._missed = True
            logger.warning(
                "deadline of %.4g ms: not met by the smallest budget now (about %.4g ms for %dx%d), which is "
                "used all the same",
                1e3 * self.seconds,
                1e3 * (spent + self.pace * curve.seconds[0]),
                *size,
            )
        share = min(self.most, SMALLEST if share is None else share)
        if self.few:
            share = max((each for each in curve.budgets if each <= share), default=share)
        return Budget(share)

    def learn(self, size: Size, budget: Budget, taken: float) -> None:
        """Take in what a picture took after it was resized, in seconds."""
        surprise = math.log(taken / (self.pace * self.costs.of(size).at(budget.share)))
        self.pace *= math.exp(GAIN * min(max(surprise, -_LARGEST_SURPRISE), _LARGEST_SURPRISE))


def usual_budget(model: Any, outputs: Any) -> float:
    """The budget beyond which more is not known to be better: what is set, or was trained for.

    That is 1 where the model was trained for any, by its recipe; else the share that ``outputs`` say the
    model works on when it is told nothing.
    """
    if not hasattr(outputs, "plan"):
        return float(model.usual_budget)  # an exported file's
    config = model.config
    if config.budget == AUTO:
        return AutoBudget.of(config.auto_budget).buckets[-1]
    if config.budget is not None:
        return float(config.budget)
    if (getattr(config, "training_recipe", None) or {}).get("task") == "any-budget":
        return 1.0
    counts, tokens = outputs.plan.counts, sum(height * width for height, width in outputs.spatial_shapes)
    return max(SMALLEST, round(sum(counts) / (len(counts) * tokens), 2))


def check_deadline(curve: CostCurve, seconds: float, size: Size, spent: float = 0.0) -> None:
    """Raise FocusDetrError where no budget meets a deadline of ``seconds``."""
    least = spent + curve.seconds[0]
    if least > seconds:
        raise FocusDetrError(
            f"deadline={1e3 * seconds:.4g}ms: cannot be met here. The smallest latency measured for a "
            f"picture of {size[0]}x{size[1]} is {1e3 * least:.4g} ms, at a budget of {curve.budgets[0]:g}; "
            "give that much or more, make pictures smaller (the image processor's size), or deploy the model"
        )

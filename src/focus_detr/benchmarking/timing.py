"""Timing: several works take turns, so that what else the machine does falls on all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from focus_detr.errors import FocusDetrError


@dataclass(frozen=True)
class Timing:
    """Seconds of each run: on the clock, and of all this process's threads together."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the seconds on the clock."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Of the threads' seconds."""
        return statistics.median(self.cpu_seconds)

    @property
    def best(self) -> float:
        """The shortest run."""
        return min(self.seconds)

    @property
    def p95(self) -> float:
        """The run that 95 % of the runs do not exceed (nearest rank): the longest of fewer than 20."""
        return sorted(self.seconds)[math.ceil(0.95 * len(self.seconds)) - 1]


def take_turns(
    works: Mapping[str, Callable[[], object]],
    runs: int,
    *,
    warmup: int = 1,
    pause: float = 0.0,
    finish: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Run A B C A B C ...: each work ``warmup`` times unmeasured, then ``runs`` times measured.

    Args:
        pause: seconds of rest before every measured run, for machines that slow down when hot.
        finish: waits for what a work left under way, as a GPU's queue.
    """
    if runs < 1 or warmup < 0 or not 0 <= pause < math.inf:
        raise FocusDetrError(
            f"runs={runs}, warmup={warmup}, pause={pause}: needs at least 1 run, and no negative numbers"
        )
    finish = finish or _nothing
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(-warmup, runs):
        for name, work in works.items():
            if turn >= 0 and pause:
                time.sleep(pause)
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            finish()
            if turn >= 0:
                taken[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    return {
        name: Timing(tuple(clock for clock, _ in each), tuple(cpu for _, cpu in each))
        for name, each in taken.items()
    }


def _nothing() -> None:
    pass

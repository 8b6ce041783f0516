"""Does a deadline hold? The time that pictures take, over the time that was asked for.

    python benchmarks/deadline.py blood-cells --threads 1 --runs 15

Deadlines are spread between what the smallest budget and what a budget of 1 take. `alone`: the budget that
the cost curve gives, its forward passes in turns with those of the others. `stream`: pictures one by one,
each with the budget that the keeper chooses; `slower` is the same stream once the machine takes a quarter
longer, by a clock that runs so much faster, after as many pictures to get used to it as `--settle` says.
`first_off` is the number of pictures until one is within 15 % after that. Seconds are those of this process's
threads, which a busy machine changes least; `--wall` takes the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import main, parser, write
from PIL import Image

from focus_detr.benchmarking import take_turns
from focus_detr.inference import Predictor
from focus_detr.inference.costs import Costs
from focus_detr.inference.deadline import DeadlineKeeper

PLACES = (0.15, 0.3, 0.5, 0.7, 0.85)
BOUND = 0.15
RATE = 1.25


class SlowingClock:
    """Seconds that pass `rate` times as fast, from when it is set."""

    def __init__(self, clock: Any) -> None:
        self._clock, self._rate, self._zero, self._shown = clock, 1.0, clock(), 0.0

    def __call__(self) -> float:
        return self._shown + self._rate * (self._clock() - self._zero)

    def set_rate(self, rate: float) -> None:
        self._shown, self._zero = self(), self._clock()
        self._rate = rate


def run(options: argparse.Namespace) -> None:
    clock = time.perf_counter if options.wall else time.process_time
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8))
    rows: list[dict[str, Any]] = []
    for deployed in (False, True):
        predictor = Predictor.from_pretrained(options.model, device="cpu", deploy=deployed)
        height, width = predictor.processor(images=[picture])["pixel_values"].shape[2:]
        costs = Costs(predictor.forward_pass, clock=clock)
        seconds = costs.of((height, width)).seconds
        deadlines = [seconds[0] + place * (seconds[-1] - seconds[0]) for place in PLACES]
        place = {"model": options.model, "deployed": deployed, "size": f"{height}x{width}"}
        found = [
            *alone(predictor, costs, (height, width), deadlines, options),
            *stream(predictor, seconds[0], picture, deadlines[len(PLACES) // 2], clock, options),
        ]
        rows += [{**place, "clock": clock.__name__, **each} for each in found]
    write("deadline", rows, options.output)


def alone(
    predictor: Predictor,
    costs: Costs,
    size: tuple[int, int],
    deadlines: list[float],
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """The cost curve's budgets, measured anew."""
    budgets = [costs.of(size).largest_within(deadline) for deadline in deadlines]
    works = {
        str(place): lambda budget=budget: predictor.forward_pass(*size, budget)
        for place, budget in enumerate(budgets)
    }
    timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    for place, (deadline, budget) in enumerate(zip(deadlines, budgets, strict=True)):
        timing = timings[str(place)]
        yield row(
            "alone", deadline, [budget], list(timing.seconds if options.wall else timing.cpu_seconds), 0
        )


def stream(
    predictor: Predictor,
    fastest: float,
    picture: Image.Image,
    deadline: float,
    clock: Any,
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """Pictures one by one, with the keeper; half of them on a machine that is slower."""
    # A deadline that the slower machine can meet as well.
    deadline = max(deadline, RATE * 1.15 * fastest)
    slowing = SlowingClock(clock)
    costs = Costs(predictor.forward_pass, clock=slowing)
    keeper = DeadlineKeeper(costs, deadline, most=1.0)
    for name, rate in (("stream", 1.0), ("slower", RATE)):
        slowing.set_rate(rate)
        found = [
            predictor.detect([picture], budget=keeper)[0] for _ in range(options.settle + options.pictures)
        ]
        off = [abs(float(each.latency or 0) / deadline - 1) > BOUND for each in found]
        first = next((place for place, each in enumerate(off) if not each), len(off))
        kept = found[options.settle :]
        yield row(name, deadline, [each.budget for each in kept], [each.latency for each in kept], first)


def row(form: str, deadline: float, budgets: list[Any], seconds: list[Any], first_off: int) -> dict[str, Any]:
    ratios = [each / deadline for each in seconds]
    return {
        "form": form,
        "deadline_ms": round(1e3 * deadline, 1),
        "budget": round(statistics.fmean(budgets), 3),
        "median_ms": round(1e3 * statistics.median(seconds), 1),
        "times_deadline": round(statistics.median(ratios), 3),
        "within_15_percent": round(statistics.fmean(abs(ratio - 1) <= BOUND for ratio in ratios), 3),
        "first_off": first_off,
    }


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=15)
    arguments.add_argument("model", nargs="?", default="blood-cells")
    arguments.add_argument("--pictures", type=int, default=40, help="of a stream, at each speed")
    arguments.add_argument("--settle", type=int, default=10, help="pictures before those that count")
    arguments.add_argument("--wall", action="store_true", help="by the clock, on a machine left alone")
    main(run, arguments.parse_args())

"""What a forward pass takes here at each budget: measured once, and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.zoo.cache import cache_folder

if TYPE_CHECKING:
    from focus_detr.inference.predictor import Predictor

logger = logging.getLogger(__name__)

BUDGETS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Those that are measured; cost is nearly linear in between, as a budget is a share of the work."""

Size = tuple[int, int]  # height, width, as the model sees a picture
Clock = Callable[[], float]

_RUNS, _FEWEST_RUNS, _ENOUGH_SECONDS = 5, 2, 10.0
_ALIKE = 1.1  # sizes whose areas differ by no more share a measurement, in proportion
_STEP = 0.01


@dataclass(frozen=True)
class CostCurve:
    """Seconds of one picture's forward pass at some budgets, the smallest first; they never fall."""

    budgets: tuple[float, ...]
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, measured: Mapping[float, float]) -> CostCurve:
        """From seconds by budget, of which noise may have made a larger budget the faster one."""
        budgets = sorted(measured)
        return cls(tuple(budgets), tuple(_never_falling([measured[budget] for budget in budgets])))

    def at(self, budget: float) -> float:
        """Seconds at a budget, on straight lines between those measured."""
        return float(np.interp(budget, self.budgets, self.seconds))

    def largest_within(self, seconds: float) -> float | None:
        """The largest budget, in hundredths, that takes no more; None where none does."""
        first, last = (round(end / _STEP) for end in (self.budgets[0], self.budgets[-1]))
        grid = np.arange(first, last + 1) * _STEP
        fitting = grid[np.interp(grid, self.budgets, self.seconds) <= seconds]
        return round(float(fitting[-1]), 2) if len(fitting) else None

    def times(self, factor: float) -> CostCurve:
        """The curve of what takes so many times as long."""
        return CostCurve(self.budgets, tuple(factor * each for each in self.seconds))


class Costs:
    """The cost curves of one model on one machine, by the size of the picture.

    A size is measured when it is first asked for, budgets in turn; one whose area differs by a tenth at most
    from that of a size measured before takes its curve, in proportion. What was measured is kept in a file
    of the cache folder, named for all that the figures depend on, so that other runs find it. One process
    measures at a time, since two would slow each other down.

    Args:
        run: a forward pass of one picture of some height and width at a budget, all of it done on return.
        facts: what the figures depend on; plain values. None keeps them to this object.
        clock: seconds.
    """

    def __init__(
        self,
        run: Callable[[int, int, float], object],
        facts: Mapping[str, Any] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._run, self._facts, self.clock = run, facts, clock
        self._curves: dict[Size, CostCurve] = {}

    @classmethod
    def of_model(cls, predictor: Predictor, decoder_layers: int | None = None) -> Costs:
        """Of a predictor's model, on its device, with the threads there are now; of so many layers."""
        facts = facts_of(predictor)
        if decoder_layers is None:
            return cls(predictor.forward_pass, facts)
        run = partial(predictor.forward_pass, decoder_layers=decoder_layers)
        return cls(run, {**facts, "decoder_layers": decoder_layers})

    def of(self, size: Size) -> CostCurve:
        """The curve of pictures of ``size`` (height, width)."""
        if size in self._curves:
            return self._curves[size]
        curve = _alike(self._curves, size)
        if curve is None:
            curve = self._measured_here(size) if self._facts is None else self._kept(self._facts, size)
        self._curves[size] = curve
        return curve

    def _kept(self, facts: Mapping[str, Any], size: Size) -> CostCurve:
        from filelock import FileLock

        file = cost_file(facts)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):
                known = _read(file)
                curve = _alike(known, size)
                if curve is None:
                    curve = known[size] = self._measured_here(size)
                    _write(file, facts, known)
                return curve
        except (OSError, NotImplementedError) as error:
            logger.warning("%s: cannot be kept (%s); what budgets take is measured each time", file, error)
            return self._measured_here(size)

    def _measured_here(self, size: Size) -> CostCurve:
        logger.info("measuring what budgets take for pictures of %dx%d, once", *size)
        taken: dict[float, list[float]] = {budget: [] for budget in BUDGETS}
        begun = self.clock()
        for turn in range(-1, _RUNS):  # the first turn is not counted
            if turn >= _FEWEST_RUNS and self.clock() - begun > _ENOUGH_SECONDS:
                break
            for budget, seconds in taken.items():
                before = self.clock()
                self._run(*size, budget)
                if turn >= 0:
                    seconds.append(self.clock() - before)
        return CostCurve.of({budget: statistics.median(seconds) for budget, seconds in taken.items()})


def cost_file(facts: Mapping[str, Any]) -> Path:
    """Where what was measured under these ``facts`` is kept."""
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder() / "costs" / f"{name}.json"


def facts_of(predictor: Predictor) -> dict[str, Any]:
    """What a model's speed depends on: its form, the device, the threads, the machine, the software."""
    import torch

    from focus_detr._version import __version__
    from focus_detr.machine import processor_name, usable_cores
    from focus_detr.ops import describe_backends

    device = predictor.device
    return {
        "model": fingerprint(predictor.model),
        "form": type(predictor.model).__name__,  # deployed or not, exported
        "dtype": str(predictor.dtype),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "cores": usable_cores(),
        "processor": processor_name(),
        "attention": [each.name for each in describe_backends(device) if each.active],
        "versions": [__version__, torch.__version__],
    }


def fingerprint(model: Any) -> str:
    """What decides how long a model computes: its configuration and the shapes of its weights.

    Their values do not, so that a fine-tuned model is as fast as what it was made from.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        return str(model.fingerprint())
    weights = {name: (list(each.shape), str(each.dtype)) for name, each in model.state_dict().items()}
    config: Any = model.config
    said = {
        name: value
        for name, value in config.to_dict().items()
        if name not in _WITHOUT_COST and not name.startswith("_")
    }
    return hashlib.sha256(json.dumps([said, weights], sort_keys=True, default=str).encode()).hexdigest()


_WITHOUT_COST = (
    "budget",
    "auto_budget",
    "settings",
    "activation_ranges",
    "id2label",
    "label2id",
    "category_ids",
    "score_threshold",
    "class_thresholds",
    "training_recipe",
)


def _alike(known: Mapping[Size, CostCurve], size: Size) -> CostCurve | None:
    area = size[0] * size[1]
    factors = {other: area / (other[0] * other[1]) for other in known}
    nearest = min(known, key=lambda other: abs(np.log(factors[other])), default=None)
    if nearest is None or not 1 / _ALIKE <= factors[nearest] <= _ALIKE:
        return None
    return known[nearest].times(factors[nearest])


def _read(file: Path) -> dict[Size, CostCurve]:
    """What a file holds; nothing where it cannot be read, as it is then made anew."""
    try:
        sizes = json.loads(file.read_text(encoding="utf-8"))["sizes"]
        return {
            (int(height), int(width)): CostCurve.of({float(b): float(s) for b, s in measured.items()})
            for size, measured in sizes.items()
            for height, _, width in [size.partition("x")]
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: cannot be read (%s); measured anew", file, error)
        return {}


def _write(file: Path, facts: Mapping[str, Any], known: Mapping[Size, CostCurve]) -> None:
    sizes = {
        f"{height}x{width}": dict(zip(map(str, curve.budgets), curve.seconds, strict=True))
        for (height, width), curve in known.items()
    }
    with whole_file(file) as stream:
        stream.write(json.dumps({"facts": facts, "sizes": sizes}, indent=2).encode())


def _never_falling(values: list[float]) -> list[float]:
    """The nearest sequence, by squares, that never falls (isotonic regression, as maxima of minima)."""
    count = len(values)

    def mean(first: int, last: int) -> float:
        return statistics.fmean(values[first : last + 1])

    return [
        max(min(mean(first, last) for last in range(place, count)) for first in range(place + 1))
        for place in range(count)
    ]


def seconds_of(deadline: float | str) -> float:
    """A deadline in seconds, from what people write: ``"50ms"``, ``"0.2s"``, or a number of seconds.

    Raises:
        FocusDetrError: it is no such time.
    """
    value: Any = deadline
    if isinstance(deadline, str):
        for unit, length in (("ms", 1e-3), ("s", 1.0)):
            number = deadline.strip().removesuffix(unit)
            if number != deadline.strip():
                try:
                    value = float(number) * length
                except ValueError:
                    pass
                break
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0 < value < float("inf"):
        raise FocusDetrError(
            f"deadline={deadline!r}: must be a time with its unit, as in '50ms' or '0.2s', or in Python a "
            "number of seconds"
        )
    return float(value)

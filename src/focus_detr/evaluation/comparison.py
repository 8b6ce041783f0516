"""compare(): the difference of two models' average precision on the same pictures, with its interval."""

# Shapes: P pictures, R draws, n runs a side.

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.resampling import PrecisionOfDraws
from focus_detr.evaluation.tables import Cell, table
from focus_detr.folders import from_home
from focus_detr.printable import finite, listed

FEWEST_DRAWS = 100


@dataclass(frozen=True)
class Difference:
    """Of one measure, 0..1; NaN where the pictures have no object of its size.

    Attributes:
        a, b: the mean of each side's runs.
        difference: b - a; with the confidence asked for it lies from ``low`` to ``high``.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Which side is better, as far as the interval says."""
        if np.isnan(self.difference):
            return "-"
        return "b is better" if self.low > 0 else "a is better" if self.high < 0 else "not told apart"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    images: int
    objects: int
    runs: int
    draws: int
    confidence: float
    measures: dict[str, Difference]

    def to_dict(self) -> dict[str, Any]:
        """As plain values; None where there was nothing to measure."""
        measures = {name: {**asdict(each), "verdict": each.verdict} for name, each in self.measures.items()}
        return finite({**self.__dict__, "measures": measures})

    def summary(self) -> str:
        """As text, for people."""
        runs = "one run a side" if self.runs == 1 else f"{self.runs} runs a side, paired in the order given"
        interval = f"{100 * self.confidence:g} % interval"
        rows: list[list[Cell]] = []
        for name, each in self.measures.items():
            shown: list[Cell] = [None, None, None]
            if not np.isnan(each.difference):
                shown = [f"{each.difference:+.3f}", f"{each.low:+.3f} to {each.high:+.3f}", each.verdict]
            rows.append([name, each.a, each.b, *shown])
        parts = [
            f"{self.images} images, {self.objects} objects; {runs}; {self.draws} draws of the images",
            table(("", "a", "b", "b - a", interval, ""), rows),
        ]
        if self.runs == 1:
            parts.append(
                "Of one run a side the interval says nothing of how runs differ: give several seeds."
            )
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` kept of one run: where, COCO's dictionary of what was to be found, and what was."""

    source: str
    ground_truth: Mapping[str, Any]
    predictions: Sequence[Mapping[str, Any]]

    @property
    def has_masks(self) -> bool:
        """Whether both what was to be found and what was have masks."""
        sides = (self.ground_truth["annotations"], self.predictions)
        return all(any("segmentation" in item for item in side) for side in sides)


def compare(
    a: Sequence[Evaluated],
    b: Sequence[Evaluated],
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """How much better the runs of ``b`` are than those of ``a``, by a paired bootstrap.

    Each draw takes as many pictures as there are, with repetition, the same ones for all runs, and scores
    them by COCO's protocol, by masks, too, where all runs have them. How far the difference moves from draw
    to draw says what other pictures would have made of it.

    Several runs a side, in one order (a seed's beside that seed's), say what other runs would have made of
    it: the mean of their differences spreads as Student's t with n-1 degrees of freedom does. Two or three
    runs drawn with repetition, as pictures are, would promise far too much. What of the pictures' spread is
    not common to the runs is in theirs already, and counts once.

    Args:
        a, b: as many runs of one as of the other, all of the same pictures.
        confidence: how often intervals made so hold the true difference.
        seed: of the draws; with it the answer is the same each time.

    Raises:
        FocusDetrError: the pictures or their objects differ, or the numbers of runs do.
    """
    _check(a, b, draws, confidence)
    truth = a[0].ground_truth
    images = len(truth["images"])
    generator = np.random.default_rng(seed)
    # The first column is the pictures as they are.
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=draws).T  # (P,R)
    weights = np.concatenate([np.ones((images, 1), drawn.dtype), drawn], 1)
    both_have_masks = all(run.has_masks for run in (*a, *b))
    found_a, found_b = (
        [_precision_of_draws(truth, run, weights, both_have_masks) for run in side] for side in (a, b)
    )
    student = student_draws(len(a), draws, generator)
    measures = {}
    for name in found_a[0]:
        of_a, of_b = (np.stack([run[name] for run in side]) for side in (found_a, found_b))  # (n,1+R)
        low, high = paired_interval(of_b - of_a, student, confidence)
        mean_a, mean_b = float(of_a[:, 0].mean()), float(of_b[:, 0].mean())
        measures[name] = Difference(mean_a, mean_b, mean_b - mean_a, low, high)
    objects = sum(not item.get("iscrowd", 0) for item in truth["annotations"])
    return Comparison(images, objects, len(a), draws, confidence, measures)


def _precision_of_draws(
    truth: Mapping[str, Any], run: Evaluated, weights: np.ndarray, masks: bool
) -> dict[str, np.ndarray]:
    found = PrecisionOfDraws(truth, run.predictions)(weights)
    if masks:
        of_masks = PrecisionOfDraws(truth, run.predictions, masks=True)(weights)
        found |= {f"mask_{name}": values for name, values in of_masks.items()}
    return found


def student_draws(runs: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Student's t of so many runs, (R,), in random order; zeros for one."""
    if runs == 1:
        return np.zeros(draws)
    # Its quantiles: of few runs, draws themselves would leave the tails to chance.
    return generator.permutation(t.ppf((np.arange(draws) + 0.5) / draws, runs - 1))


def paired_interval(
    differences: np.ndarray, student: np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Where the mean of differences (n,1+R) lies, the first column that of the pictures as they are.

    Args:
        student: (R,), as `student_draws` gives it.
    """
    runs, drawn = differences[:, 0], differences[:, 1:]
    drawn = drawn[:, ~np.isnan(drawn).any(0)]  # a draw may have no object of a size
    if np.isnan(runs).any() or not drawn.size:
        return np.nan, np.nan
    # Copies of pictures raise AP itself a little, on both sides: the spread counts, not where it lies.
    common = drawn.mean(0) - drawn.mean()
    spread = common
    if len(runs) > 1:
        own = (drawn - drawn.mean(0)).var(1).sum() / (len(runs) - 1)  # of one run's, beside what all share
        shared = max(0.0, 1 - own / len(runs) / max(common.var(), 1e-30))
        among_runs = runs.std(ddof=1) / len(runs) ** 0.5
        spread = np.sqrt(shared) * common + among_runs * student[: len(common)]
    low, high = runs.mean() + np.quantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def read_evaluated(path: str | os.PathLike[str]) -> Evaluated:
    """What `evaluate` wrote into a folder.

    Raises:
        FocusDetrError: it is no such folder, or a file in it is damaged.
    """
    folder = from_home(Path(path))
    if folder.name == "predictions.json":
        folder = folder.parent
    truth, found = (_read(folder, name) for name in ("ground_truth.json", "predictions.json"))
    fields = {"images", "annotations", "categories"}
    if not isinstance(truth, dict) or not fields <= set(truth):
        raise FocusDetrError(f"{folder / 'ground_truth.json'}: is no COCO json of {listed(sorted(fields))}")
    needed = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(found, list) or not all(
        isinstance(each, dict) and needed <= set(each) for each in found
    ):
        raise FocusDetrError(f"{folder / 'predictions.json'}: is no list of COCO results")
    return Evaluated(str(folder), truth, found)


def _read(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FocusDetrError(
            f"{path}: cannot be read: {error.strerror}; give a folder that `focus-detr evaluate MODEL DATA "
            "--output FOLDER` wrote"
        ) from error
    except ValueError as error:
        raise FocusDetrError(f"{path}: is not JSON: {error}; evaluate again") from error


def _check(a: Sequence[Evaluated], b: Sequence[Evaluated], draws: int, confidence: float) -> None:
    if not a or len(a) != len(b):
        raise FocusDetrError(
            f"{len(a)} runs of a and {len(b)} of b: runs are compared in pairs; give as many of each, a "
            "seed's beside that seed's"
        )
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < FEWEST_DRAWS:
        raise FocusDetrError(
            f"draws={draws!r}: must be a whole number of at least {FEWEST_DRAWS}; 1000 is usual"
        )
    if not 0 < confidence < 1:
        raise FocusDetrError(f"confidence={confidence!r}: must lie between 0 and 1; 0.95 is usual")
    first, *others = (*a, *b)
    if not first.ground_truth["images"]:
        raise FocusDetrError(f"{first.source}: no picture was scored there")
    for other in others:
        for what, of in (("pictures", _pictures), ("classes", _classes), ("objects", _objects)):
            here, there = of(first.ground_truth), of(other.ground_truth)
            if here != there:
                only = sorted(here ^ there)
                holder = first.source if only[0] in here else other.source
                raise FocusDetrError(
                    f"{first.source} and {other.source} are not of the same {what}: {len(only)} are in one "
                    f"alone, as {only[0]} in {holder}; evaluate both on the same split of the same data"
                )


def _pictures(truth: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    # The folder of the data may have moved meanwhile.
    return {
        (image["id"], Path(image["file_name"]).name, image["width"], image["height"])
        for image in truth["images"]
    }


def _classes(truth: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    return {(category["id"], category["name"]) for category in truth["categories"]}


def _objects(truth: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    return {
        (item["image_id"], item["category_id"], *item["bbox"], item.get("iscrowd", 0))
        for item in truth["annotations"]
    }

"""frontier(): average precision by time over resolution, budget and decoder layers of one model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.benchmarking.environment import describe_environment
from focus_detr.benchmarking.plots import plot_frontier
from focus_detr.benchmarking.report import write_csv
from focus_detr.benchmarking.timing import take_turns
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_files
from focus_detr.images.settings import Setting, scaled_size
from focus_detr.structures.budget import Budget

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.evaluation.comparison import Evaluated
    from focus_detr.inference import Predictor

SCALES = (0.5, 0.7, 0.85, 1.0)
BUDGETS = (0.1, 0.2, 0.3, 0.5, 1.0)
_FAST = 10  # times what a balanced setting may lose, a fast one may


@dataclass(frozen=True)
class FrontierPoint:
    """One resolution, budget and number of decoder layers.

    Attributes:
        scale: of the model's own resolution.
        setting: what a predictor is put `at`, with its AP.
        milliseconds: median for one picture, from the picture in memory to its detections.
        best: no other point is as good in less time.
        difference, low, high: AP above that of the best point, with a 95 % interval; of frontier points.
    """

    scale: float
    setting: Setting
    milliseconds: float
    best: bool = False
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def ap(self) -> float:
        """Average precision, 0..1."""
        return self.setting.ap or 0.0

    def row(self, name: str = "") -> dict[str, Any]:
        """As a line of a table; ``name`` is that of the setting."""
        size = self.setting.size or {}
        compared = {"difference": self.difference, "low": self.low, "high": self.high}
        return {
            "setting": name,
            "scale": self.scale,
            "size": "x".join(str(value) for key, value in size.items() if key != "multiple"),
            "budget": self.setting.budget,
            "decoder_layers": self.setting.decoder_layers,
            "ms": round(self.milliseconds, 2),
            "AP": round(self.ap, 4),
            "frontier": self.best,
            **{key: None if value is None else round(value, 4) for key, value in compared.items()},
        }


@dataclass(frozen=True)
class Frontier:
    """What `frontier` found.

    Attributes:
        points: all that were tried, the fastest first.
        settings: of them by name: "best" has the highest AP, "balanced" is the fastest that loses no more
            than was allowed, "fast" the fastest that loses no more than ten times that.
        images: that AP is of.
    """

    points: list[FrontierPoint]
    settings: dict[str, Setting]
    max_drop: float
    images: int
    environment: dict[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """A line for each point."""
        return [point.row(self._names(point)) for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        settings = {name: setting.to_dict() for name, setting in self.settings.items()}
        return {"images": self.images, "max_drop": self.max_drop, "settings": settings, "rows": self.rows()}

    def summary(self) -> str:
        """The frontier as text, for people."""
        from focus_detr.evaluation.tables import table

        header = ("setting", "scale", "budget", "layers", "ms", "AP", "to the best", "95 % interval")
        cells: list[list[Any]] = []
        for point in self.points:
            if point.best:
                assert point.low is not None and point.high is not None
                budget, layers = point.setting.budget, point.setting.decoder_layers
                cells.append([
                    self._names(point), f"{point.scale:g}", "-" if budget is None else f"{budget:g}",
                    "-" if layers is None else str(layers), f"{point.milliseconds:.4g}", point.ap,
                    f"{point.difference:+.3f}", f"{point.low:+.3f} to {point.high:+.3f}",
                ])  # fmt: skip
        said = (
            f"{len(cells)} of {len(self.points)} points, on {self.images} images: no other is as good in less"
        )
        return "\n\n".join([table(header, cells), f"{said} time here."])

    def named(self) -> dict[str, FrontierPoint]:
        """The points that are settings, by their names."""
        return {name: point for point in self.points if (name := self._names(point))}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write frontier.csv, one line a point with the environment, and frontier.png."""
        with whole_files(Path(folder)) as writing:
            write_csv(writing / "frontier.csv", self.rows(), self.environment)
            plot_frontier(self.points, self.named(), writing / "frontier.png")

    def _names(self, point: FrontierPoint) -> str:
        return " ".join(name for name, setting in self.settings.items() if setting == point.setting)


def frontier(
    predictor: Predictor,
    data: DetectionDataset | str | os.PathLike[str],
    *,
    split: str | None = "val",
    scales: Sequence[float] = SCALES,
    budgets: Sequence[float] = (),
    decoder_layers: Sequence[int] = (),
    max_drop: float = 0.003,
    runs: int = 5,
    draws: int = 1000,
    batch_size: int = 1,
    progress: bool = False,
) -> Frontier:
    """Average precision and time at every resolution with every budget and number of decoder layers.

    Times are of one picture of the data, from the picture in memory to its detections, points in turns. On
    the frontier is what no other point beats in both; its points are compared with the best one on the same
    pictures (`compare`).

    Args:
        scales: resolutions, as shares of the model's own; budgets: `BUDGETS` when not given, of models that
            take one; decoder_layers: all numbers that the model has when not given.
        max_drop: AP (0..1) that the setting "balanced" may lose to the best point, "fast" ten times that.
        runs: that are timed, of each point.

    Raises:
        FocusDetrError: an option cannot be used, or the model is an exported file.
    """
    if not 0 <= max_drop < 1:
        raise FocusDetrError(f"max_drop={max_drop!r}: is a difference of AP in [0, 1); 0.003 is usual")
    from focus_detr.data import DetectionDataset, load_dataset

    config: Any = getattr(predictor.model, "config", None)
    if not hasattr(config, "used_decoder_layers"):
        raise FocusDetrError("frontier: an exported file has its settings fixed; give the model itself")
    points = _points(predictor, scales, budgets, decoder_layers)
    dataset = data
    if not isinstance(dataset, DetectionDataset):
        dataset = load_dataset(os.fspath(dataset), split, classes=list(predictor.class_names))
    points = _timed(predictor, points, dataset[0].image, runs)
    points, kept = _evaluated(predictor, points, dataset, batch_size, progress)
    points = _compared(points, kept, draws)
    settings = _named(points, max_drop)
    images = len(next(iter(kept.values())).ground_truth["images"])
    return Frontier(points, settings, max_drop, images, describe_environment(str(predictor.device)))


def _points(
    predictor: Predictor, scales: Sequence[float], budgets: Sequence[float], layers: Sequence[int]
) -> list[FrontierPoint]:
    model: Any = predictor.model
    shares: list[float | None] = [*sorted({Budget(each).share for each in budgets})]
    if not shares:
        shares = list(BUDGETS) if model.encoder.takes_budget else [None]
    counts: list[int | None] = [*sorted(set(layers))]
    if not counts:
        counts = list(range(1, model.config.decoder_layers + 1)) if model.host.takes_layers else [None]
    found = []
    for scale, share, count in itertools.product(sorted(set(scales)), shares, counts):
        setting = Setting(scaled_size(predictor.processor.size, scale), share, count)
        predictor.at(setting)  # refused before anything is measured
        found.append(FrontierPoint(scale, setting, 0.0))
    return found


def _timed(predictor: Predictor, points: list[FrontierPoint], picture: Any, runs: int) -> list[FrontierPoint]:
    predictors = [predictor.at(point.setting) for point in points]

    def finish() -> None:
        if predictor.device.type == "cuda":
            import torch

            torch.cuda.synchronize(predictor.device)

    works = {str(place): (lambda each=each: each.detect([picture])) for place, each in enumerate(predictors)}
    taken = take_turns(works, runs, finish=finish)
    timed = [
        replace(point, milliseconds=1e3 * taken[str(place)].median) for place, point in enumerate(points)
    ]
    return sorted(timed, key=lambda point: point.milliseconds)


def _evaluated(
    predictor: Predictor,
    points: list[FrontierPoint],
    dataset: DetectionDataset,
    batch_size: int,
    progress: bool,
) -> tuple[list[FrontierPoint], dict[int, Evaluated]]:
    """Points with their AP, and what those of the frontier found, by their place: of all it would be much."""
    from focus_detr.evaluation.comparison import Evaluated
    from focus_detr.evaluation.run import evaluate

    found, kept, highest = [], {}, -1.0
    for place, point in enumerate(points):
        report = evaluate(predictor.at(point.setting), dataset, batch_size=batch_size, progress=progress)
        ap = max(0.0, float(report.metrics.summary["AP"]))  # -1 or nan where there is nothing to find
        best = ap > highest
        if best:
            highest = ap
            kept[place] = Evaluated(f"point {place}", report.ground_truth, report.predictions)
        found.append(replace(point, setting=replace(point.setting, ap=ap), best=best))
    return found, kept


def _compared(points: list[FrontierPoint], kept: Mapping[int, Evaluated], draws: int) -> list[FrontierPoint]:
    from focus_detr.evaluation.comparison import compare

    last = max(kept)  # points come by time, and each of the frontier is better than those before
    compared = list(points)
    for place, each in kept.items():
        ap = compare([kept[last]], [each], draws=draws).measures["AP"]
        compared[place] = replace(
            points[place], difference=float(ap.difference), low=float(ap.low), high=float(ap.high)
        )
    return compared


def _named(points: list[FrontierPoint], max_drop: float) -> dict[str, Setting]:
    best = [point for point in points if point.best]
    highest = best[-1].ap

    def fastest(drop: float) -> Setting:
        return next(point.setting for point in best if point.ap >= highest - drop)

    return {"best": best[-1].setting, "balanced": fastest(max_drop), "fast": fastest(_FAST * max_drop)}

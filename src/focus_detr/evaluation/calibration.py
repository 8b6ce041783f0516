"""calibrate(): the smallest budget that costs no more accuracy than is allowed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.auto_calibration import (
    AutoCalibration,
    PictureScores,
    calibrate_auto,
    picture_scores,
)
from focus_detr.evaluation.comparison import Evaluated, compare
from focus_detr.evaluation.plots import plot_budgets
from focus_detr.evaluation.run import evaluate
from focus_detr.evaluation.share_calibration import (
    Options,
    Outcome,
    ShareCalibration,
    Work,
    calibrate_shares,
    check_shares,
    shares_of,
)
from focus_detr.evaluation.tables import Cell, table
from focus_detr.folders import whole_files
from focus_detr.printable import finite
from focus_detr.structures.auto_budget import AutoBudget
from focus_detr.structures.budget import Budget

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.inference import Predictor

BUDGETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class BudgetRow:
    """AP at a budget, and how far it is above the best budget's, with its 95 % interval; 0..1."""

    budget: float
    ap: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        budget: the smallest one from which on, up to the best one, no AP falls by more than ``max_drop``.
        best: that of the highest AP: 1 for a model of any budget, near its own for one trained for that.
        rows: of every budget tried, the smallest first.
        auto: of budgets chosen picture by picture, where they were asked for.
        shares: of layers and levels by themselves, where they were asked for.
    """

    budget: float
    best: float
    max_drop: float
    images: int
    rows: list[BudgetRow]
    auto: AutoCalibration | None = None
    shares: ShareCalibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        parts = {"auto": self.auto, "shares": self.shares}
        plain = {name: None if part is None else part.to_dict() for name, part in parts.items()}
        return finite({**self.__dict__, "rows": [asdict(row) for row in self.rows], **plain})

    def summary(self) -> str:
        """As text, for people."""
        cells: list[list[Cell]] = [
            [f"{r.budget:g}", r.ap, f"{r.difference:+.3f}", f"{r.low:+.3f} to {r.high:+.3f}"]
            for r in self.rows
        ]
        chosen = next(row for row in self.rows if row.budget == self.budget)
        known = ""
        if chosen.low < -self.max_drop:
            known = (
                f" So few images cannot tell whether it loses more: the interval reaches {chosen.low:+.3f}."
            )
        return "\n\n".join([
            table(("budget", "AP", "to the best", "95 % interval"), cells),
            f"Budget {self.budget:g}: AP is {self.max_drop:g} at most below that of {self.best:g}.{known}",
            *(part.summary() for part in (self.auto, self.shares) if part is not None),
        ])  # fmt: skip

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write calibration.json and calibration.png."""
        with whole_files(Path(folder)) as writing:
            (writing / "calibration.json").write_text(json.dumps(self.to_dict(), indent=2), encoding="utf-8")
            plot_budgets(self, writing / "calibration.png")


def calibrate(
    predictor: Predictor,
    data: DetectionDataset | str | os.PathLike[str],
    *,
    split: str | None = "val",
    max_drop: float = 0.003,
    budgets: Sequence[float] = BUDGETS,
    auto: bool = False,
    layers: bool = False,
    levels: bool = False,
    batch_size: int = 1,
    draws: int = 1000,
    progress: bool = False,
) -> Calibration:
    """The smallest budget that costs at most ``max_drop`` of AP, on labelled pictures.

    The model is evaluated at each budget, and compared on the same pictures with itself at the best of them
    (`compare`): one that was trained for a budget is not at its best with more. It is the difference found
    that must be small enough; its interval says how well it is known.

    Args:
        budgets: those to try; 1 is always among them.
        auto: also find the rule of budgets chosen picture by picture (see `AutoBudget`), from these budgets.
        layers: also find a smaller share of each encoder layer, from that budget on (`calibrate_shares`);
            levels: and of each level. The rule of `auto` would not hold for them: not both.
        split, batch_size: as in `evaluate`; draws: as in `compare`.

    Raises:
        FocusDetrError: the model takes no budget, or an option cannot be used.
    """
    if not 0 <= max_drop < 1:
        raise FocusDetrError(f"max_drop={max_drop!r}: is a difference of AP in [0, 1); 0.003 is usual")
    tried = sorted({*(Budget(each).share for each in budgets), 1.0})
    if auto and (layers or levels):
        raise FocusDetrError(
            "auto: its rule holds for the shares that the policy has; calibrate layers first"
        )
    predictor.accept_budget(1.0)
    if layers or levels:
        check_shares(predictor, levels)
    if auto:
        predictor.accept_budget(AutoBudget(1.0, 0.0, tuple(tried)))  # refused where it cannot be
    found, aps = {}, {}
    pictures: list[PictureScores] = []

    def watch(outputs: Any, labels: Any) -> None:
        pictures.extend(picture_scores(outputs, labels))

    for budget in reversed(tried):
        watching: dict[str, Any] = {"watch": watch} if auto and budget == tried[-1] else {}
        report = evaluate(
            predictor, data, split=split, batch_size=batch_size, budget=budget, progress=progress, **watching
        )
        aps[budget] = report.metrics.summary["AP"]
        found[budget] = Evaluated(f"budget {budget:g}", report.ground_truth, report.predictions)
    best = max(tried, key=lambda budget: (aps[budget], budget))
    rows = []
    for budget in tried:
        ap = compare([found[best]], [found[budget]], draws=draws).measures["AP"]
        rows.append(BudgetRow(budget, ap.b, ap.difference, ap.low, ap.high))
    kept = tried.index(best)
    while kept and rows[kept - 1].difference >= -max_drop:
        kept -= 1
    chosen = None
    model: Any = getattr(predictor, "model", None)
    if auto:
        chosen = calibrate_auto(model.encoder, pictures, found, best, max_drop=max_drop, draws=draws)
    shares = None
    if layers or levels:

        def attempt(options: Options) -> Outcome:
            work = Work()
            with shares_of(model, options):
                report = evaluate(
                    predictor, data, split=split, batch_size=batch_size, progress=progress, watch=work.watch
                )
            other = Evaluated("shares", report.ground_truth, report.predictions)
            ap = compare([found[best]], [other], draws=draws).measures["AP"]
            return Outcome(ap.b, ap.difference, ap.low, ap.high, work.mean(), work.levels())

        shares = calibrate_shares(model, tried[kept], attempt, max_drop=max_drop, levels=levels)
    images = len(found[best].ground_truth["images"])
    return Calibration(tried[kept], best, max_drop, images, rows, chosen, shares)

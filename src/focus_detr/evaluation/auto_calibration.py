"""The rule of automatic budgets: which share of its foreground a picture's budget has to hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from focus_detr.evaluation.comparison import Evaluated, compare
from focus_detr.evaluation.tables import Cell, table
from focus_detr.evaluation.tokens import inside_boxes, token_centres
from focus_detr.structures.auto_budget import AutoBudget, held
from focus_detr.structures.budget import Budget
from focus_detr.structures.geometry import Geometry

if TYPE_CHECKING:
    from focus_detr.models.policies import TokenPolicy

TRIED = 12
"""Shares that are tried: quantiles of what budgets hold of pictures, at which their budgets change."""
BACKGROUND = 0.95
"""Quantile of the probabilities of tokens outside of all boxes, beyond which a token counts as foreground."""


@dataclass(frozen=True)
class AutoRow:
    """AP where each picture's budget holds a share of its foreground; the rest as in `BudgetRow`."""

    share: float
    mean_budget: float
    ap: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class AutoCalibration:
    """What was found of automatic budgets.

    Attributes:
        rule: that of the smallest share whose AP, and that of all larger ones, falls by no more than allowed;
            None where that of 1 falls by more.
        rows: of every share tried that changes a picture's budget, the smallest first.
        pictures: how many pictures have each budget by the rule.
        learned: the shares are what the model's chooser expects, in place of mass.
        other: what was found of the other of the two, whose budgets are no smaller.
    """

    rule: AutoBudget | None
    rows: list[AutoRow]
    pictures: dict[float, int] = field(default_factory=dict)
    learned: bool = False
    other: AutoCalibration | None = None

    def mean_budget(self) -> float:
        """Of the pictures, by the rule; infinite without one."""
        if self.rule is None:
            return math.inf
        return sum(b * n for b, n in self.pictures.items()) / sum(self.pictures.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "rule": None if self.rule is None else self.rule.to_dict(),
            "rows": [asdict(row) for row in self.rows],
            "pictures": {f"{budget:g}": count for budget, count in self.pictures.items()},
            "learned": self.learned,
            "other": None if self.other is None else self.other.to_dict(),
        }

    def summary(self) -> str:
        """As text, for people."""
        cells: list[list[Cell]] = [
            [
                *(f"{r.share:g}", f"{r.mean_budget:.3f}", r.ap, f"{r.difference:+.3f}"),
                f"{r.low:+.3f} to {r.high:+.3f}",
            ]
            for r in self.rows
        ]
        first = "expected to be kept" if self.learned else "foreground held"
        rows = table((first, "mean budget", "AP", "to the best", "95 % interval"), cells)
        if self.rule is None:
            return f"{rows}\n\nNo share keeps that AP: no rule for --budget auto."
        budgets = ", ".join(f"{budget:g} in {count}" for budget, count in self.pictures.items())
        what = (
            "are expected to keep {:g} of what it has"
            if self.learned
            else "hold {:g} of a picture's foreground"
        )
        return (
            f"{rows}\n\n--budget auto: budgets that {what.format(self.rule.share)}, "
            f"which are {self.mean_budget():.3f} on average: {budgets} pictures."
            + (
                ""
                if self.other is None
                else f"\n\nNot taken, with no smaller budgets:\n\n{self.other.summary()}"
            )
        )


@dataclass(frozen=True)
class PictureScores:
    """The foreground logits (n,) of one picture's tokens, fine to coarse, and where they are.

    Attributes:
        shapes: (H, W) of each level.
        outside: (n,) those in no box.
    """

    image_id: int
    shapes: list[tuple[int, int]]
    scores: Tensor
    outside: Tensor


def picture_scores(outputs: Any, labels: Sequence[Mapping[str, Any]]) -> list[PictureScores]:
    """Of a batch; ``labels`` as `ForegroundRecall.update` takes them, with ``image_id``."""
    found = []
    levels = outputs.plan.scores.detach().float().cpu().split([h * w for h, w in outputs.spatial_shapes], 1)
    for image, label in enumerate(labels):
        shapes = [(int(h), int(w)) for h, w in outputs.level_sizes[image]]
        own = [
            level[image].view(canvas)[:height, :width].flatten()
            for level, canvas, (height, width) in zip(levels, outputs.spatial_shapes, shapes, strict=True)
        ]
        centres, _ = token_centres(shapes, torch.tensor(shapes))
        inside = inside_boxes(centres, label["boxes"].detach().float().cpu())  # (n,T)
        found.append(PictureScores(int(label["image_id"]), shapes, torch.cat(own), ~inside.any(1)))
    return found


def calibrate_auto(
    policy: TokenPolicy,
    pictures: Sequence[PictureScores],
    found: Mapping[float, Evaluated],
    best: float,
    *,
    max_drop: float,
    draws: int,
) -> AutoCalibration:
    """The rule that costs at most ``max_drop`` of AP, from evaluations at each budget.

    It goes by the mass held, or by the model's own chooser where pictures then have smaller budgets.

    No picture is computed again: at its budget it has the answer that it has where all pictures have it.

    Args:
        pictures: their scores, which do not depend on the budget.
        found: evaluations by budget; those up to the ``best`` one are chosen from.
    """
    buckets = tuple(sorted(budget for budget in found if budget <= best))
    rule = AutoBudget(1.0, _background(pictures), buckets)
    by_mass = _by(rule, policy, pictures, found, best, max_drop, draws)
    if not policy.chooses:
        return by_mass
    learned = _by(replace(rule, learned=True), policy, pictures, found, best, max_drop, draws)
    if learned.mean_budget() < by_mass.mean_budget():
        return replace(learned, other=by_mass)
    return replace(by_mass, other=learned)


def _by(
    rule: AutoBudget,
    policy: TokenPolicy,
    pictures: Sequence[PictureScores],
    found: Mapping[float, Evaluated],
    best: float,
    max_drop: float,
    draws: int,
) -> AutoCalibration:
    buckets = rule.buckets
    shares = np.array([_held(policy, rule, picture) for picture in pictures])  # (pictures, buckets)
    by_image = {budget: _by_image(found[budget].predictions) for budget in buckets}
    rows: list[AutoRow] = []
    before: list[int] | None = None
    for share in _to_try(shares):
        chosen = [_first(row >= share - 1e-5) for row in shares]
        if chosen == before:
            continue
        before = chosen
        predictions = [
            each
            for picture, place in zip(pictures, chosen, strict=True)
            for each in by_image[buckets[place]].get(picture.image_id, [])
        ]
        auto = Evaluated(f"auto, {share:g}", found[best].ground_truth, predictions)
        ap = compare([found[best]], [auto], draws=draws).measures["AP"]
        mean = float(np.mean([buckets[place] for place in chosen]))
        rows.append(AutoRow(share, mean, ap.b, ap.difference, ap.low, ap.high))
        if ap.difference < -max_drop:  # smaller ones are not looked at
            break
    kept = [row for row in rows if row.difference >= -max_drop]
    rows.reverse()
    if not kept:
        return AutoCalibration(None, rows, learned=rule.learned)
    rule = replace(rule, share=kept[-1].share)
    counts = Counter(buckets[_first(row >= rule.share - 1e-5)] for row in shares)
    return AutoCalibration(rule, rows, dict(sorted(counts.items())), rule.learned)


def _background(pictures: Sequence[PictureScores]) -> float:
    outside = torch.cat([picture.scores[picture.outside] for picture in pictures]).sigmoid()
    return round(float(np.quantile(outside.numpy(), BACKGROUND)), 4) if len(outside) else 0.0


def _held(policy: TokenPolicy, rule: AutoBudget, picture: PictureScores) -> list[float]:
    """The share of the picture's foreground that each bucket holds, or what it is expected to keep."""
    scores = picture.scores[None]
    geometry = Geometry.unpadded(picture.shapes, 1, scores.device)
    if rule.learned:
        with torch.no_grad():
            scores = scores.to(next(policy.parameters()).device)
            return [float(policy.expects(scores, None, budget)) for budget in rule.buckets]
    mass = rule.mass(scores, None)
    return [float(held(policy.select(scores, geometry, Budget(b)), mass)) for b in rule.buckets]


def _to_try(shares: np.ndarray) -> list[float]:
    """Shares to hold, from 1 down."""
    quantiles = np.quantile(shares, np.linspace(0, 1, TRIED)) if shares.size else []
    return sorted({1.0, *(float(np.floor(1e4 * each) / 1e4) for each in quantiles)}, reverse=True)


def _first(enough: np.ndarray) -> int:
    """The first place that holds, else the last one."""
    return int(np.argmax(enough)) if enough.any() else len(enough) - 1


def _by_image(predictions: Sequence[Mapping[str, Any]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for each in predictions:
        found.setdefault(each["image_id"], []).append(each)
    return found

"""Shares of single layers and levels: where a budget's tokens are needed least."""

# Shapes: N tokens of all levels, L levels, K_j those that layer j works on.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.tables import Cell, table
from focus_detr.structures.budget import Budget

if TYPE_CHECKING:
    from focus_detr.models import FocusDetrForObjectDetection

FACTORS = (0.5, 0.75)
"""What a share is multiplied by, as often as AP allows; then the next."""
LEAST = 0.01
"""No share is made smaller."""


@dataclass(frozen=True)
class Outcome:
    """An evaluation: AP, how far it is above the best budget's with its 95 % interval, and the work done.

    Attributes:
        mean: share of tokens that an encoder layer worked on, the mean of layers and pictures.
        levels: share of each level's tokens that the first layer worked on, fine to coarse, the mean of
            pictures.
    """

    ap: float
    difference: float
    low: float
    high: float
    mean: float
    levels: tuple[float, ...]


Options = Mapping[str, Any]
Attempt = Callable[[Options], Outcome]
"""The outcome of the model with these policy options."""
Smaller = Callable[[Options, float], tuple[float, Options]]
"""The share of a part, times a factor, and the options that have it."""


@dataclass(frozen=True)
class ShareRow:
    """What was tried: the share of a layer or level, and whether it was taken; the rest as in `Outcome`."""

    part: str
    share: float | None
    taken: bool
    mean: float
    ap: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class ShareCalibration:
    """What was found of the shares of layers and levels.

    Attributes:
        options: of the policy, with these shares.
        mean: share of tokens that an encoder layer then works on; ``before``, with the budget alone.
        rows: all that was tried, in order.
    """

    options: Options
    mean: float
    before: float
    rows: list[ShareRow] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**self.__dict__, "options": dict(self.options), "rows": [asdict(row) for row in self.rows]}

    def summary(self) -> str:
        """As text, for people."""
        cells: list[list[Cell]] = [
            [
                *(r.part, r.share, "yes" if r.taken else "no", f"{r.mean:.3f}", r.ap),
                *(f"{r.difference:+.3f}", f"{r.low:+.3f} to {r.high:+.3f}"),
            ]
            for r in self.rows
        ]
        header = ("part", "share", "taken", "mean budget", "AP", "to the best", "95 % interval")
        said = "; ".join(f"{name} {value}" for name, value in self.options.items())
        return (
            f"{table(header, cells)}\n\nEach part by itself: a mean budget of {self.mean:.3f}, "
            f"where one for all has {self.before:.3f}: {said}."
        )


def calibrate_shares(
    model: FocusDetrForObjectDetection, budget: float, attempt: Attempt, *, max_drop: float, levels: bool
) -> ShareCalibration:
    """The smallest shares of layers, and of levels where ``levels``, of a model at this budget.

    One after the other: layers from the first on, of whose tokens the others have some, then levels from the
    finest on, which has most. A share is made smaller as long as AP is at most ``max_drop`` below the best
    budget's. Levels that compete with each other are first given the shares that they have now.
    """
    search = _Search(attempt, max_drop, _options_at(model, budget))
    for layer in range(len(search.options["cascade"])):
        search.shrink(f"layer {layer + 1}", partial(_less_of_layer, layer))
    if levels:
        if "level_quotas" not in search.options:
            quotas = [max(LEAST, round(share, 4)) for share in search.outcome.levels]
            search.offer("levels apart", None, {**search.options, "level_quotas": quotas})
        for level in range(len(search.options.get("level_quotas", ()))):
            search.shrink(f"level {level + 1}", partial(_less_of_level, level))
    return ShareCalibration(search.options, search.outcome.mean, search.before, search.rows)


class _Search:
    """What was taken so far, and its outcome."""

    def __init__(self, attempt: Attempt, max_drop: float, options: Options) -> None:
        self._attempt, self._max_drop = attempt, max_drop
        self.options, self.outcome = options, attempt(options)
        self.before = self.outcome.mean
        self.rows: list[ShareRow] = []

    def shrink(self, part: str, smaller: Smaller) -> None:
        """Make a part's share smaller as long as that is taken."""
        for factor in FACTORS:
            share, options = smaller(self.options, factor)
            while share >= LEAST and self.offer(part, share, options):
                share, options = smaller(self.options, factor)

    def offer(self, part: str, share: float | None, options: Options) -> bool:
        """Take these options, if they do not cost too much."""
        found = self._attempt(options)
        taken = found.difference >= -self._max_drop
        numbers = (found.mean, found.ap, found.difference, found.low, found.high)
        self.rows.append(ShareRow(part, share, taken, *numbers))
        if taken:
            self.options, self.outcome = options, found
        return taken


def check_shares(predictor: Any, levels: bool = False) -> None:
    """Refuse a model whose layers, or ``levels``, can have no shares of their own."""
    policy = getattr(predictor.model, "encoder", None)
    if policy is None:
        raise FocusDetrError("layers: an exported file has its shares fixed; use the model it was made from")
    if not hasattr(policy.options, "cascade"):
        raise FocusDetrError(
            f"layers: those of token_policy={policy.config.token_policy!r} have no shares of their own; "
            "leave it out, or use a policy with a cascade: focus, salience"
        )
    if levels and getattr(policy.options, "reactivation", False):
        raise FocusDetrError(
            "levels: layers of this model choose from all tokens, whatever their level (reactivation)"
        )


@contextmanager
def shares_of(model: FocusDetrForObjectDetection, options: Options) -> Iterator[None]:
    """Inside the block, the model works at these policy options, and at no budget beside them."""
    policy, config = model.encoder, model.config
    before = policy.options, config.budget
    policy.change_options(**{name: _plain(value) for name, value in options.items()})
    config.budget = None
    try:
        yield
    finally:
        policy.options, config.budget = before


class Work:
    """How much of its tokens a model works on, from its answers."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._levels: list[Tensor] = []

    def watch(self, outputs: Any, labels: Sequence[Any]) -> None:
        """A batch."""
        plan, shapes = outputs.plan, outputs.spatial_shapes
        level_of = torch.cat([torch.full((h * w,), level) for level, (h, w) in enumerate(shapes)])  # (N,)
        layers = [[each.cpu() for each in plan.kept(layer)] for layer in range(len(plan.counts))]
        for image in range(len(labels)):
            tokens = outputs.level_sizes[image].cpu().prod(-1)  # (L,)
            kept = [indices[image][own[image]] for indices, own in layers]  # (K_j,)
            self._means.append(sum(map(len, kept)) / len(kept) / int(tokens.sum()))
            self._levels.append(torch.bincount(level_of[kept[0]], minlength=len(shapes)) / tokens)

    def mean(self) -> float:
        """Share of tokens that a layer worked on."""
        return sum(self._means) / len(self._means)

    def levels(self) -> tuple[float, ...]:
        """Share of each level's that the first one did."""
        return tuple(torch.stack(self._levels).mean(0).tolist())


def _options_at(model: FocusDetrForObjectDetection, budget: float) -> dict[str, Any]:
    # The policy's shares at a budget, as options.
    from focus_detr.models.selection import quotas_at

    options = model.encoder.options
    if getattr(options, "level_quotas", ()):
        quotas, cascade = quotas_at(Budget(budget), options.level_quotas, options.cascade)
        return {"level_quotas": _rounded(quotas), "cascade": _rounded(cascade)}
    ratio, cascade = Budget(budget).cascade(options.keep_ratio, options.cascade)
    return {"keep_ratio": round(float(ratio), 4), "cascade": _rounded(cascade)}


def _less_of_layer(layer: int, options: Options, factor: float) -> tuple[float, Options]:
    cascade = list(options["cascade"])
    most = round(cascade[layer] * factor, 4)
    smaller = [share if j < layer else min(share, most) for j, share in enumerate(cascade)]
    return most, {**options, "cascade": smaller}


def _less_of_level(level: int, options: Options, factor: float) -> tuple[float, Options]:
    quotas = list(options["level_quotas"])
    quotas[level] = round(quotas[level] * factor, 4)
    return quotas[level], {**options, "level_quotas": quotas}


def _rounded(shares: Sequence[Any]) -> list[float]:
    return [round(float(share), 4) for share in shares]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

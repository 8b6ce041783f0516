"""Budgets: how much of its tokens an encoder works on, said at a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from focus_detr.errors import FocusDetrError

SMALLEST = 0.05
AUTO = "auto"
"""What callers say for the rule by which a model chooses each picture's budget (see `AutoBudget`)."""

Share = float | Fraction


def exact(share: Share) -> Fraction:
    """A share as the decimal that it is written as, or as a third and such.

    It is rounded to a fraction of a million at most, whose products with counts int64 can hold.
    """
    return Fraction(str(share)).limit_denominator(10**6)


@dataclass(frozen=True)
class Budget:
    """The mean share of tokens that an encoder layer works on.

    1.0: every layer works on all tokens, which is the dense encoder's work. Half of it is half of that work,
    whatever the policy: its own shares, layer by layer, are multiplied by one factor, and none exceeds 1.

    Raises:
        FocusDetrError: no number in 0.05 to 1.0.
    """

    share: float

    def __post_init__(self) -> None:
        value = self.share
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not SMALLEST <= value <= 1:
            raise FocusDetrError(
                f"budget={value!r}: must be a number in [{SMALLEST}, 1.0], the mean share of tokens that an "
                "encoder layer works on; 1.0 is all of them, None what the model was configured for"
            )

    @classmethod
    def of(cls, value: Any) -> Budget | None:
        """A budget from what callers may give: a share, or None for the model's own."""
        return value if value is None or isinstance(value, Budget) else cls(value)

    def cascade(self, keep_ratio: Share, cascade: Sequence[float]) -> tuple[Fraction, list[Fraction]]:
        """The keep ratio and cascade with this mean, from a policy's own.

        They are `scaled`, so that layers keep their proportions until the first of them works on everything.
        """
        shares = scaled([exact(keep_ratio) * exact(share) for share in cascade], exact(self.share))
        return shares[0], [share / shares[0] for share in shares]


@dataclass(frozen=True)
class LayerCounts:
    """How many tokens each layer works on, never more than the one before; of graphs, an input."""

    counts: tuple[int, ...]


def scaled(shares: Sequence[Share], mean: Share, weights: Sequence[int] | None = None) -> list[Fraction]:
    """min(1, f * share) of each, with the one f that gives them this (weighted) mean, in (0, 1].

    No share falls as the mean grows; with mean 1 all are 1, with their own mean they stay as they are.
    """
    each = [exact(share) for share in shares]
    weight = [1] * len(each) if weights is None else list(weights)
    total = exact(mean) * sum(weight)
    factor = Fraction(0)
    for _ in each:
        # Shares that reach 1 take no more; what they leave falls to the others, of which some may reach it.
        full = [factor * share >= 1 for share in each]
        left = total - sum(w for w, reached in zip(weight, full, strict=True) if reached)
        rest = sum(w * s for w, s, reached in zip(weight, each, full, strict=True) if not reached)
        if not rest:
            break
        factor = left / rest
    return [min(Fraction(1), factor * share) for share in each]


def share(ratio: Share, count: Any) -> Any:
    """floor(ratio * count), exactly (see `exact`), of a number or a tensor of numbers."""
    fraction = exact(ratio)
    return count * fraction.numerator // fraction.denominator


def layer_counts(num_tokens: int, keep_ratio: Share, cascade: Sequence[Share]) -> tuple[int, ...]:
    """How many of an image's tokens each layer works on: floor(keep_ratio * N) + 1, and shares of it."""
    return shares_of(min(share(keep_ratio, num_tokens) + 1, num_tokens), cascade)


def shares_of(largest: int, cascade: Sequence[Share]) -> tuple[int, ...]:
    """Of the tokens that the first layer works on, those of each."""
    return tuple(max(1, share(ratio, largest)) for ratio in cascade)

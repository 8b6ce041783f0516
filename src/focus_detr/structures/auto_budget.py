"""Automatic budgets: each picture has the smallest that holds enough of its foreground."""

# Shapes: B images, N tokens of all levels, K_0 kept.

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.structures.budget import Budget

if TYPE_CHECKING:
    from torch import Tensor

    from focus_detr.structures.plan import TokenPlan

_ROUNDING = 1e-5  # sums of thousands of float32 are no better


@dataclass(frozen=True)
class AutoBudget:
    """The rule that chooses a picture's budget, from its foreground scores alone.

    A token's foreground mass is how far its probability exceeds ``background``: an empty picture has none.
    A budget holds the mass of the tokens that its layers work on, the mean of layers, as a budget is a mean.

    Attributes:
        share: of the picture's mass that its budget holds, 0..1.
        background: probability that tokens outside of objects have, 0..1.
        buckets: budgets to choose from, rising; the last one where no other holds enough.
        learned: the share is what the model's own chooser expects a picture to keep (`TokenPolicy.expects`),
            in place of mass held.

    Raises:
        FocusDetrError: values that are none of these.
    """

    share: float
    background: float
    buckets: tuple[float, ...]
    learned: bool = False

    def __post_init__(self) -> None:
        for name in ("share", "background"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise FocusDetrError(f"auto_budget[{name!r}]={value!r}: must be a number in [0, 1]")
        shares = [Budget(each).share for each in self.buckets]
        if not shares or shares != sorted(set(shares)):
            raise FocusDetrError(f"auto_budget['buckets']={self.buckets!r}: must be budgets, rising")

    @classmethod
    def of(cls, values: AutoBudget | Mapping[str, Any]) -> AutoBudget:
        """From what a configuration holds."""
        if isinstance(values, AutoBudget):
            return values
        known = [field.name for field in dataclasses.fields(cls)]
        for name in (*values, *known):
            if name not in known:
                raise FocusDetrError(f"auto_budget: unknown key {name!r}{did_you_mean(name, known)}")
            if name not in values and name != "learned":
                raise FocusDetrError(f"auto_budget: lacks {name!r}; has to have {', '.join(known)}")
        buckets = values["buckets"]
        if not isinstance(buckets, list | tuple):
            raise FocusDetrError(f"auto_budget['buckets']={buckets!r}: must be a list of budgets")
        learned = values.get("learned", False)
        if not isinstance(learned, bool):
            raise FocusDetrError(f"auto_budget['learned']={learned!r}: must be true or false")
        return cls(values["share"], values["background"], tuple(buckets), learned)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        values = {**dataclasses.asdict(self), "buckets": list(self.buckets)}
        if not self.learned:
            del values["learned"]
        return values

    def choose(
        self,
        plan_of: Callable[[Budget], TokenPlan],
        scores: Tensor,
        valid: Tensor | None,
        expects: Callable[[float], Tensor] | None = None,
    ) -> TokenPlan:
        """The plan in which each image has its own budget, which depends on no other image.

        Args:
            plan_of: the plan of all images at one budget.
            scores: (B,N) foreground logits.
            valid: (B,N), those that are image; None where all are.
            expects: what each image is expected to keep at a budget, (B,), where that is `learned`.
        """
        import torch  # that budgets can be said without it

        from focus_detr.structures.plan import TokenPlan

        mass = self.mass(scores, valid)
        chosen = torch.full((len(scores),), len(self.buckets) - 1, device=scores.device)
        plans: list[TokenPlan] = []
        for place, bucket in enumerate(self.buckets[:-1]):
            plans.append(plan_of(Budget(bucket)))
            keeps = held(plans[-1], mass) if expects is None else expects(bucket)
            enough = keeps >= self.share - _ROUNDING
            chosen = torch.where(enough & (chosen > place), place, chosen)
            if int(chosen.max()) <= place:  # the larger ones are nobody's
                break
        else:
            plans.append(plan_of(Budget(self.buckets[-1])))
        which = chosen.tolist()
        return dataclasses.replace(
            TokenPlan.of_each(plans, which), budgets=tuple(self.buckets[place] for place in which)
        )

    def mass(self, scores: Tensor, valid: Tensor | None) -> Tensor:
        """(B,N) foreground mass of tokens; padding has none."""
        mass = (scores.detach().float().sigmoid() - self.background).clamp(min=0)
        return mass if valid is None else mass * valid


BudgetLike: TypeAlias = Budget | AutoBudget | float | str | None
"""What callers may give: a budget, a share, "auto", or None for the model's own."""


def held(plan: TokenPlan, mass: Tensor) -> Tensor:
    """(B,) share of each image's ``mass`` (B,N) that the layers of a plan work on, in the mean; 1 of none."""
    import torch

    total = mass.sum(1)
    sums = mass.gather(1, plan.indices).cumsum(1)  # (B,K_0)
    layers = []
    for layer, count in enumerate(plan.counts):
        if plan.valid_counts is None:
            layers.append(sums[:, count - 1])
        else:
            layers.append(sums.gather(1, plan.valid_counts[:, layer, None] - 1)[:, 0])
    shares = torch.stack(layers).mean(0) / total
    return torch.where(total > 0, shares, torch.ones_like(shares))

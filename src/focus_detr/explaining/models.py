"""Which models can be explained, and at which budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.calibration import BUDGETS
from focus_detr.models.detector import FocusDetrForObjectDetection

if TYPE_CHECKING:
    from focus_detr.inference import Predictor
    from focus_detr.structures.plan import TokenPlan

_SAME = 0.005
"""Budgets nearer than this are one: the model's own is rounded to whole tokens."""


def explainable(predictor: Predictor) -> FocusDetrForObjectDetection:
    """The predictor's model, which can say what it looks at.

    Raises:
        FocusDetrError: it is an exported one, or not of this package.
    """
    model = predictor.model
    if not isinstance(model, FocusDetrForObjectDetection):
        raise FocusDetrError(
            "explain: an exported file does not say where its model looks; give the model that it was made "
            "from (a folder, or a name of `focus-detr models`)"
        )
    return model


def budgets_beside(
    model: FocusDetrForObjectDetection, own: float, budgets: Sequence[float] | None = None
) -> list[float]:
    """Those of ``budgets`` that are not the model's ``own`` one, rising; by default those of `calibrate`, or
    none where it takes none.

    Raises:
        FocusDetrError: one of them is no budget, or the model takes none.
    """
    if budgets is None:
        budgets = BUDGETS if model.encoder.takes_budget else ()
    for each in budgets:
        model.encoder.accept(each)
    return sorted({float(each) for each in budgets if abs(each - own) > _SAME})


def share_of(plan: TokenPlan | None, num_tokens: int, image: int = 0) -> float:
    """The mean share of an image's ``num_tokens`` that an encoder layer works on."""
    if plan is None:
        return 1.0
    kept = [int(plan.kept(layer)[1][image].sum()) for layer in range(len(plan.counts))]
    return sum(kept) / (len(kept) * num_tokens)

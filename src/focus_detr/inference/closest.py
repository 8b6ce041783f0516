"""The most accurate of a model's settings that meets a deadline: with a lower resolution, it may be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from focus_detr.errors import FocusDetrError
from focus_detr.images.settings import CLOSEST, no_settings
from focus_detr.inference.costs import Costs, seconds_of

if TYPE_CHECKING:
    from focus_detr.inference.predictor import Predictor

logger = logging.getLogger(__name__)

_USUAL_PICTURE = 480, 640  # height, width: the shape that settings are compared at, before any is seen


def at_setting(predictor: Predictor, setting: str | None, deadline: float | str | None = None) -> Predictor:
    """The predictor at a setting of its model, by name; "auto" is the one closest to a deadline.

    Of those that meet it that is the most accurate, by the AP that they were stored with, and else the
    fastest. What they take is measured here, for a picture of 4:3, and kept (`Costs`).

    Args:
        setting: None leaves the predictor as it is.

    Raises:
        FocusDetrError: there is no such setting, or "auto" without a deadline.
    """
    if setting is None:
        return predictor
    if setting != CLOSEST:
        return predictor.at(setting)
    if deadline is None:
        raise FocusDetrError(
            f"setting={CLOSEST!r}: is the best one within a deadline; give one, as in '50ms', or the name "
            "of a setting"
        )
    seconds = seconds_of(deadline)
    settings = getattr(getattr(predictor.model, "config", None), "settings", None)
    if not settings:
        raise no_settings(CLOSEST)
    found = {name: predictor.at(name) for name in settings}
    taken: dict[str, float] = {}
    for name in sorted(found, key=lambda each: -(found[each].setting.ap or 0.0)):
        taken[name] = _seconds(found[name])
        if taken[name] <= seconds:
            break
    else:
        name = min(taken, key=lambda each: taken[each])
    logger.info("setting %s: about %.4g ms a picture here", name, 1e3 * taken[name])
    return found[name]


def _seconds(predictor: Predictor) -> float:
    budget, layers = predictor.setting.budget, predictor.setting.decoder_layers
    curve = Costs.of_model(predictor, layers).of(predictor.processor.size_of(*_USUAL_PICTURE))
    # At most, where the setting leaves the budget to the model.
    return curve.at(budget if isinstance(budget, int | float) else curve.budgets[-1])

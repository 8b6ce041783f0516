"""Settings: resolution, budget and decoder layers under one name, as points that a model can be run at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.images.reading import check_size
from focus_detr.structures.budget import AUTO, Budget

CLOSEST = "auto"
"""What callers say, with a deadline, for the most accurate setting that meets it; no setting's name."""
_STEP = 32  # what scaled sides that stretch are multiples of: cells of the coarsest usual stride


@dataclass(frozen=True)
class Setting:
    """What a call that says none of these takes.

    Attributes:
        size: that pictures are resized to, as of an image processor (`ArrayProcessor`); None is its own.
        budget: mean share of tokens that an encoder layer works on, or "auto"; None is the model's own.
        decoder_layers: that are run; None is the model's own.
        ap: average precision (0..1) that was measured with it; None where none was.

    Raises:
        FocusDetrError: values that are none of these.
    """

    size: dict[str, int] | None = None
    budget: float | str | None = None
    decoder_layers: int | None = None
    ap: float | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            if not isinstance(self.size, Mapping):
                raise FocusDetrError(f"size={self.size!r}: must be a size as of an image processor")
            check_size(dict(self.size))
        if self.budget != AUTO:
            Budget.of(self.budget)
        layers, ap = self.decoder_layers, self.ap
        if layers is not None and (isinstance(layers, bool) or not isinstance(layers, int) or layers < 1):
            raise FocusDetrError(f"decoder_layers={layers!r}: must be a whole number, 1 or more")
        if ap is not None and (isinstance(ap, bool) or not isinstance(ap, int | float) or not 0 <= ap <= 1):
            raise FocusDetrError(f"ap={ap!r}: must be a number between 0 and 1")

    @classmethod
    def of(cls, name: str, values: Any) -> Setting:
        """From what a configuration holds under ``name``."""
        if name == CLOSEST or not name.strip():
            raise FocusDetrError(f"settings: {name!r} cannot be the name of one; take another")
        if isinstance(values, Setting):
            return values
        if not isinstance(values, Mapping):
            raise FocusDetrError(f"settings[{name!r}]={values!r}: must be a mapping, as {{budget: 0.3}}")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise FocusDetrError(f"settings[{name!r}]: unknown key {key!r}{did_you_mean(key, known)}")
        try:
            return cls(**values)
        except FocusDetrError as error:
            raise FocusDetrError(f"settings[{name!r}]: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """As plain values, those that say something."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def setting_named(settings: Mapping[str, Any] | None, name: str) -> Setting:
    """The setting of this name among a configuration's.

    Raises:
        FocusDetrError: there is none.
    """
    if not settings:
        raise no_settings(name)
    if name not in settings:
        known = ", ".join(settings)
        raise FocusDetrError(f"setting={name!r}: not known{did_you_mean(name, settings)}; known: {known}")
    return Setting.of(name, settings[name])


def no_settings(name: str) -> FocusDetrError:
    """What to raise where a model has none at all."""
    return FocusDetrError(
        f"setting={name!r}: this model has none; `focus-detr calibrate MODEL DATA --frontier --output "
        "FOLDER` writes a copy that has some"
    )


def scaled_size(size: Mapping[str, int], scale: float) -> dict[str, int]:
    """An image processor's size with edges ``scale`` times as long.

    Raises:
        FocusDetrError: no number in (0, 4].
    """
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not 0 < scale <= 4:
        raise FocusDetrError(f"scale={scale!r}: must lie in (0, 4], the share of the model's own resolution")
    if scale == 1:
        return dict(size)
    step = _STEP if "height" in size else 1
    return {
        name: value if name == "multiple" else max(step, round(value * scale / step) * step)
        for name, value in size.items()
    }

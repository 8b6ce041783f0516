"""Numbers and ids as json, xml and labelling tools write them: also as text, with a decimal comma, as 7.0."""

from __future__ import annotations

import math
import re
from typing import Any

from focus_detr.printable import in_line

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_LARGEST_ID = 2**53  # beyond it, ids no longer survive json readers that know doubles alone


def number(value: Any) -> float | None:
    """A number (also nan or infinity), or None for what is none; `true` is none, "20,5" is 20.5."""
    if isinstance(value, str):
        value = value.strip()
        if value.count(",") == 1 and "." not in value:
            value = value.replace(",", ".")
    elif type(value) not in (int, float):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def positive(value: Any) -> float | None:
    """A finite number above 0, or None."""
    found = number(value)
    return found if found is not None and math.isfinite(found) and found > 0 else None


def size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) in whole pixels where both are numbers above 0."""
    found = [int(side) for side in (positive(width), positive(height)) if side is not None]
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None


def id_key(value: Any) -> str | None:
    """An id in the form that ids are compared in: 7, 7.0 and "7" are one. None for what is no id (`true`)."""
    if type(value) is float and value.is_integer() and abs(value) <= _LARGEST_ID:
        value = int(value)
    if type(value) is int:
        return str(value) if abs(value) < 10**40 else None
    return (value.strip() or None) if isinstance(value, str) else None


def whole_id(value: Any) -> int | None:
    """The number that an id stands for, or None where it is text, too large or no id."""
    key = id_key(value)
    if key is None or not _WHOLE.fullmatch(key):
        return None
    found = int(key)
    return found if abs(found) <= _LARGEST_ID else None


def is_fraction(left: float, top: float, right: float, bottom: float) -> bool:
    """Whether a box in pixels lies within 0..1, as if it were given in fractions of its image."""
    box = (left, top, right, bottom)
    inside = all(0 <= value <= 1 for value in box) and right > left and bottom > top
    return inside and not all(value.is_integer() for value in box)


def shown_value(value: Any) -> str:
    """What stands in a file, for a message: a list or map by its kind alone, for it may be endless."""
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else in_line(repr(value), 60)

"""What is shown and written, made fit for it: text without control characters, values without NaN."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from typing import Any

_LONGEST = 2000
_KEPT = "\n\t"
_NUMBERS = re.compile(r"\[([^|\[\]]*)\|([^|\[\]]*)\]")


def printable(text: str, longest: int = _LONGEST) -> str:
    """``text`` with control characters as escapes (``\\x1b``) and its middle left out beyond ``longest``.

    What a file or a server says may otherwise move the cursor, change colors or fill the screen. Line ends
    and tabs stay.
    """
    if len(text) > longest:
        head, tail = longest * 2 // 3, longest // 3
        text = f"{text[:head]} ... ({len(text) - head - tail} characters left out) ... {text[-tail:]}"
    return "".join(
        char if char.isprintable() or char in _KEPT else char.encode("unicode_escape").decode()
        for char in unicode_name(text)
    )


def in_line(text: object, longest: int = 200) -> str:
    """``text`` as part of a line: `printable`, and its line ends and tabs are escapes too."""
    return printable(str(text), longest).replace("\n", "\\n").replace("\t", "\\t")


def listed(names: Iterable[object], most: int = 10) -> str:
    """``names`` between commas, each `in_line`; of many the first ones, and how many more there are."""
    every = list(names)
    more = [f"{len(every) - most} more"] if len(every) > most else []
    return ", ".join([*(in_line(name, 80) for name in every[:most]), *more])


def counted(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `2 pictures`; with ``many`` as in `2 boxes`."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def in_number(template: str, count: int) -> str:
    """``template`` said of so many: `{count}` is the number, and in `picture[|s] [is|are]` the first of two
    stands after 1, the second after others."""
    chosen = _NUMBERS.sub(lambda found: found[1 if count == 1 else 2], template)
    return chosen.replace("{count}", str(count))


def percent(share: float) -> str:
    """A share of 1 in per cent, to two significant digits: small shares are often the ones that matter."""
    value = 100 * share
    return f"{value:.0f}%" if abs(value) >= 9.95 else f"{value:.2g}%"


def unicode_name(name: str) -> str:
    """A file's name as text that every encoding of Unicode takes: bytes that are not UTF-8 as ``\\xff``.

    Python holds such bytes as lone surrogates, which no file of results and no console can be given.
    """
    try:
        name.encode("utf-8")
        return name
    except UnicodeEncodeError:
        pass
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte, as "\ud800" in a JSON file
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: Any) -> Any:
    """``value`` as JSON can hold it: None for NaN and infinity, lists for tuples, text for keys."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

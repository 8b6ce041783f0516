"""Tables as plain text: a column as wide as its widest entry, numbers to the right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from focus_detr.printable import in_line

Cell = str | int | float | None


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Rows under a header; fractions with three places, "-" where there is no value."""
    lines = [list(header), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    words = [
        bool(rows) and all(isinstance(row[column], str) for row in rows) for column in range(len(header))
    ]
    aligned = [
        "  ".join(
            text.ljust(width) if is_word else text.rjust(width)
            for text, width, is_word in zip(line, widths, words, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([aligned[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *aligned[1:]])


def _text(value: Cell) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else in_line(value)

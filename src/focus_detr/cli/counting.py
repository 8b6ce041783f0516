"""`--count-line` and `--count-zone` of `focus-detr predict`: objects that cross a line, or are in a place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file

if TYPE_CHECKING:
    from focus_detr.inference.writers import Result

CountLineOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X1,Y1,X2,Y2",
        help="With --track, count by class what crosses this line, in pixels, each way. Repeatable.",
    ),
]
CountZoneOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X1,Y1,X2,Y2,X3,Y3,...",
        help="With --track, count by class what is in this polygon, in pixels. Repeatable.",
    ),
]


class Counting:
    """Lines and zones as the command line names them, and what was counted there.

    Raises:
        FocusDetrError: one of them is none, or nothing is tracked.
    """

    def __init__(self, lines: list[str], zones: list[str], track: bool) -> None:
        from focus_detr.inference.tracking import Counts, Line, Zone

        for option, given in (("--count-line", lines), ("--count-zone", zones)):
            if given and not track:
                raise FocusDetrError(f"{option}: counts what is tracked; add --track")
        self.counts = Counts(
            [Line(*_points("--count-line", text, 2, 2)) for text in lines],
            [Zone(tuple(_points("--count-zone", text, 3, None))) for text in zones],
        )

    def add(self, result: Result) -> Result:
        """Count what a frame's result changes; it is returned with the counts until it."""
        return self.counts.add(result) if self.counts else result

    def write(self, output: Path | None) -> None:
        """`counts.json` in the output folder."""
        if self.counts and output is not None:
            with explained_disk(output, "--output"), whole_file(output / "counts.json") as stream:
                stream.write(json.dumps(self.counts.to_list(), ensure_ascii=False, indent=2).encode())

    def print(self, say: Callable[[str], None]) -> None:
        """A table for each video."""
        from focus_detr.evaluation.tables import table

        if not self.counts:
            return
        for video in self.counts.to_list():
            page = table(("counted at", "class", *_COLUMNS), list(_rows(video)))
            for line in ("", video["video"], *page.splitlines()):
                say(line)


_COLUMNS = ("to right", "to left", "entered", "now")


def _rows(video: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    for kind in ("line", "zone"):
        for number, place in enumerate(video[f"{kind}s"], start=1):
            columns = [place.get(name.replace(" ", "_")) for name in _COLUMNS]
            names = dict.fromkeys(chain.from_iterable(column for column in columns if column is not None))
            for name in names or [""]:
                counts = ("" if column is None else column.get(name, 0) for column in columns)
                yield (f"{kind} {number}", name, *counts)


def _points(option: str, text: str, fewest: int, most: int | None) -> list[tuple[float, float]]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    points = list(zip(values[::2], values[1::2], strict=False))
    finite = all(abs(value) < 1e9 for value in values)
    if not finite or len(values) % 2 or len(points) < fewest or (most and len(points) > most):
        example = "100,200,500,200" if most else "100,100,500,100,500,400,100,400"
        raise FocusDetrError(
            f"{option} {text!r}: must be x,y in pixels of {fewest} points{'' if most else ' or more'}, "
            f"as in {example}"
        )
    return points

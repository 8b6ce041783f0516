"""Pictures of tables in benchmarks/results: one bar a row, nothing measured anew.

    python benchmarks/draw.py                    # all that there are tables of
    python benchmarks/draw.py gpu start

`gpu.png` has whole passes, `start.png` whole processes, `training_step.png` what a training step's time goes
to. Written beside the tables.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common import RESULTS

from focus_detr.benchmarking.plots import new_figure


@dataclasses.dataclass(frozen=True)
class Picture:
    """What of a table is drawn: rows that have all of ``where`` and a value, labelled by columns."""

    title: str
    labels: Sequence[str]
    value: str = "ms"
    where: tuple[str, str] | None = None


PICTURES = {
    "gpu": Picture("Whole passes on a GPU", ("case", "form", "dtype"), where=("part", "forward")),
    "start": Picture("From nothing to the first detection", ("process",), "least_ms"),
    "training_step": Picture("What a training step's time goes to", ("form",), "milliseconds"),
}


def draw(name: str, folder: Path = RESULTS) -> Path:
    """The picture of a table, beside it."""
    picture = PICTURES[name]
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row[picture.value]]
    if picture.where is not None:
        column, value = picture.where
        rows = [row for row in rows if row[column] == value]
    figure, axes = new_figure(picture.title, "milliseconds", "")
    figure.set_figheight(1.2 + 0.26 * len(rows))
    values = [float(row[picture.value]) for row in rows]
    bars = axes.barh(range(len(rows)), values, color="#0072b2")
    axes.bar_label(bars, [f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values], padding=4)
    axes.set_yticks(range(len(rows)), ["  ".join(row[each] for each in picture.labels) for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    file = folder / f"{name}.png"
    figure.savefig(file, dpi=120, facecolor="white")
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    for each in parser.parse_args().names or [n for n in PICTURES if (RESULTS / f"{n}.csv").is_file()]:
        print(draw(each))

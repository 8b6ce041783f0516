"""The picture of a benchmark: what models give against the time they take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from focus_detr.pictures.palette import CURVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from focus_detr.benchmarking.frontiers import FrontierPoint
    from focus_detr.benchmarking.report import Row

_INK, _FAINT = "#1f2933", "#e4e7eb"

File = str | os.PathLike[str]


def plot_against_time(rows: Sequence[Row], file: File) -> None:
    """AP, or the share of tokens worked on where no AP was measured, against the median for an image.

    Rows of one model are joined: what its budgets or sizes trade.
    """
    accuracy = any(row.AP is not None for row in rows)
    figure, axes = new_figure(
        "Accuracy against time" if accuracy else "Tokens against time",
        "milliseconds an image, median",
        "AP" if accuracy else "tokens encoder layers work on",
    )
    for place, model in enumerate(dict.fromkeys(row.model for row in rows)):
        points = [
            (row.median_ms / row.batch_size, row.AP if accuracy else _worked_on(row), row)
            for row in rows
            if row.model == model
        ]
        known = sorted(
            ((x, y, row) for x, y, row in points if y is not None), key=lambda point: (point[1], point[0])
        )
        color = CURVES[place % len(CURVES)]
        axes.plot([x for x, _, _ in known], [y for _, y, _ in known], "o-", color=color, label=model)
        for x, y, row in known:
            note = row.size
            if row.budget is not None:
                note += f" budget {row.budget:g}"
            elif row.keep_ratio is not None:
                note += f" keep {row.keep_ratio:g}"
            if row.decoder_layers is not None:
                note += f" layers {row.decoder_layers}"
            axes.annotate(note, (x, y), (5, 5), textcoords="offset points", fontsize=7, color=_INK)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150, facecolor="white")


def new_figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure in the project's look, left out of the caller's plotting state and screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.set_title(title, loc="left", color=_INK, fontweight="bold")
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.grid(color=_FAINT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _worked_on(row: Row) -> float | None:
    # An exported file does not say which tokens it keeps.
    return None if row.tokens is None or row.kept is None else row.tokens * row.kept


def plot_frontier(points: Sequence[FrontierPoint], named: Mapping[str, FrontierPoint], file: File) -> None:
    """AP against the time for a picture, a color for each resolution; the frontier is a line with names."""
    figure, axes = new_figure("Accuracy against time", "milliseconds a picture, median", "AP")
    for place, scale in enumerate(sorted({point.scale for point in points})):
        some = [point for point in points if point.scale == scale]
        axes.plot(
            [point.milliseconds for point in some],
            [point.ap for point in some],
            "o",
            color=CURVES[place % len(CURVES)],
            markersize=4,
            label=f"resolution {scale:g}",
        )
    best = [point for point in points if point.best]
    axes.plot(
        [point.milliseconds for point in best],
        [point.ap for point in best],
        "-",
        color=_INK,
        label="frontier",
    )
    for name, point in named.items():
        where = (point.milliseconds, point.ap)
        axes.annotate(name, where, (5, -10), textcoords="offset points", fontsize=8, color=_INK)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150, facecolor="white")

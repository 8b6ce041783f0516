"""The picture of a run: total loss and its main parts, AP, learning rate over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from focus_detr.folders import whole_file


def plot_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows of a training log (``step`` and named numbers) into the image file ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    losses, scores, rates = figure.subplots(1, 3)
    names = list(dict.fromkeys(name for row in rows for name in row))
    parts = [name for name in names if name.startswith("loss_") and not name[-1].isdigit()]
    _draw(losses, rows, ["loss", *parts], "loss", log=True)
    _draw(scores, rows, [name for name in names if name.startswith("eval_AP")], "average precision")
    _draw(rates, rows, ["learning_rate"], "learning rate")
    with whole_file(path) as stream:
        figure.savefig(stream, dpi=100, format=path.suffix[1:])


def _draw(
    axes: Any, rows: Sequence[dict[str, Any]], names: Sequence[str], title: str, log: bool = False
) -> None:
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            marker = "." if len(points) < 50 else ""
            axes.plot(*zip(*points, strict=True), label=name.removeprefix("eval_"), marker=marker)
    if axes.lines:
        axes.legend(fontsize="small")
        axes.set_yscale("log" if log and all(min(line.get_ydata()) > 0 for line in axes.lines) else "linear")
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)

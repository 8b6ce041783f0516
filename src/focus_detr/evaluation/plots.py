"""The figures of an evaluation: precision over recall, F1 over the threshold, and confusions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.evaluation.coco import CocoMetrics
from focus_detr.evaluation.curves import F1Curve
from focus_detr.pictures.palette import CURVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from focus_detr.evaluation.calibration import Calibration

_NAMED_CLASSES = 10
_INK, _FAINT = "#1f2933", "#c5ced6"

File = str | os.PathLike[str]


def plot_precision_recall(metrics: CocoMetrics, file: File) -> None:
    """Precision over recall at IoU 0.5, of each class and their mean."""
    figure, axes = _figure("Precision and recall at IoU 0.5", "recall", "precision")
    recall = np.linspace(0, 1, metrics.precision.shape[1])
    measured = [row for row, item in enumerate(metrics.per_class) if not np.isnan(item.ap50)]
    many = len(measured) > _NAMED_CLASSES
    for place, row in enumerate(measured):
        item = metrics.per_class[row]
        axes.plot(
            recall,
            metrics.precision[row],
            color=_FAINT if many else CURVES[place % len(CURVES)],
            linewidth=0.8 if many else 1.6,
            label=None if many else f"{item.name}  {item.ap50:.3f}",
        )
    if measured:
        mean = metrics.precision[measured].mean(0)
        axes.plot(
            recall, mean, color=_INK, linewidth=2.8, label=f"all classes  {metrics.summary['AP50']:.3f}"
        )
        outer_legend(axes, "class and AP50")
    else:
        _say(axes, "no objects to score")
    save_figure(figure, file)


def plot_budgets(calibration: Calibration, file: File) -> None:
    """AP over the budget, with the interval of its difference to the best one's, and the budget chosen."""
    figure, axes = _figure("AP and budget", "mean share of tokens that an encoder layer works on", "AP")
    rows = calibration.rows
    best, shares = max(row.ap for row in rows), [row.budget for row in rows]
    low, high = [best + row.low for row in rows], [best + row.high for row in rows]
    axes.fill_between(shares, low, high, color=_FAINT, label="95 % interval of the difference to the best")
    axes.plot(shares, [row.ap for row in rows], "o-", color=CURVES[0], linewidth=1.6, label="AP")
    axes.axhline(best - calibration.max_drop, color=_INK, linewidth=0.8, label="lowest AP allowed")
    axes.axvline(calibration.budget, color=CURVES[1], linewidth=1.6, label=f"budget {calibration.budget:g}")
    axes.set_ylim(0, max([1e-3, *high]) * 1.1)
    outer_legend(axes, "")
    save_figure(figure, file)


def plot_f1(curves: Sequence[F1Curve], file: File) -> None:
    """F1 over the score threshold at IoU 0.5, of each class and of all pooled, with the best threshold."""
    figure, axes = _figure("F1 at IoU 0.5", "score threshold", "F1")
    pooled, classes = curves[0], [curve for curve in curves[1:] if curve.objects]
    many = len(classes) > _NAMED_CLASSES
    for place, curve in enumerate(classes):
        color = _FAINT if many else CURVES[place % len(CURVES)]
        label = None if many else f"{curve.name}  {_best(curve)}"
        _steps(axes, curve, color=color, linewidth=0.8 if many else 1.6, label=label)
    if pooled.best_threshold is None:
        _say(axes, "no right detection at any threshold")
    else:
        _steps(axes, pooled, color=_INK, linewidth=2.8, label=f"all classes  {_best(pooled)}")
        axes.axvline(pooled.best_threshold, color=_INK, linewidth=1, linestyle=(0, (4, 4)))
        outer_legend(axes, "class, best F1 and its threshold")
    save_figure(figure, file)


def plot_confusion_matrix(
    matrix: np.ndarray, names: Sequence[str], threshold: float | None, file: File
) -> None:
    """Counts as numbers, shares of each true class as color; the background row is scaled by itself.

    Args:
        matrix: (k+1,k+1) as `confusion_matrix` gives it.
        names: of the k classes.
        threshold: the lowest score counted; None: those asked for, which may be one for each class.
    """
    labels = [*names, "background"]
    count = len(labels)
    side = float(np.clip(2.6 + 0.52 * count, 5.0, 22.0))
    scores = "at the scores asked for" if threshold is None else f"score ≥ {threshold:.2f}"
    figure, axes = _figure(f"Confusions at IoU 0.5, {scores}", "found as", "in truth", (side + 1.0, side))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), labels, rotation=0 if count <= 4 else 90)
    axes.set_yticks(range(count), labels)
    if count > 30:
        axes.tick_params(labelsize=6)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    # Background neither found nor there is not a count of anything.
    axes.add_patch(_hatched(count - 1))
    if count <= 40:
        size = float(np.clip(130 / count, 5, 13))
        for row, column in zip(*np.nonzero(matrix), strict=True):
            color = "white" if shares[row, column] > 0.55 else _INK
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class")
    save_figure(figure, file)


def _figure(title: str, x: str, y: str, size: tuple[float, float] = (7.2, 5.2)) -> tuple[Figure, Axes]:
    figure, (axes,) = new_figure((title,), x, y, size)
    return figure, axes


def new_figure(
    titles: Sequence[str], x: str, y: str, size: tuple[float, float] = (7.2, 5.2)
) -> tuple[Figure, list[Axes]]:
    """A figure with axes from 0 to 1 side by side, one for each title."""
    # A figure of its own, not pyplot's: nothing is left behind in the caller's plotting state or screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    drawn = [figure.add_subplot(1, len(titles), place) for place in range(1, len(titles) + 1)]
    for axes, title in zip(drawn, titles, strict=True):
        _dress(axes, title, x, y)
    return figure, drawn


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, color=_INK, pad=12, fontweight="bold")
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(True, color="#e8ecf0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _steps(axes: Axes, curve: F1Curve, **style: Any) -> None:
    thresholds = np.concatenate([[0.0], curve.thresholds, [1.0]])
    values = np.concatenate([curve.f1[:1], curve.f1, [0.0]]) if curve.f1.size else np.zeros(2)
    axes.step(thresholds if curve.f1.size else [0, 1], values, where="pre", **style)


def _best(curve: F1Curve) -> str:
    return "-" if curve.best is None else f"{curve.f1[curve.best]:.3f} at {curve.best_threshold:.2f}"


def outer_legend(axes: Axes, title: str) -> None:
    """A legend right of the axes."""
    legend = axes.legend(
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        alignment="left",
        labelcolor=_INK,
    )
    legend.get_title().set_color("#66727f")


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color="#66727f", transform=axes.transAxes)


def _hatched(corner: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (corner - 0.5, corner - 0.5), 1, 1, facecolor="#f5f7f9", edgecolor=_FAINT, hatch="///", lw=0
    )


def save_figure(figure: Figure, file: File) -> None:
    """Write it, in the format that the file's ending says."""
    figure.savefig(file, dpi=150, facecolor="white")

"""The figures of a report: what is in a data set, at a glance."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from focus_detr.data.doctor import Examination
from focus_detr.evaluation.plots import new_figure, outer_legend
from focus_detr.pictures.palette import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CLASSES = 30
_INK = "#1f2933"


def figures(found: Examination) -> list[tuple[str, Image.Image]]:
    """Captions and pictures: objects by class, sizes of objects and pictures, recall where it is known."""
    drawn = [("Objects of each class", _classes(found)), ("Sizes", _sizes(found))]
    recall = _recall(found)
    if recall is not None:
        drawn.append(("Objects that a budget could keep", recall))
    return drawn


def _classes(found: Examination) -> Image.Image:
    totals: dict[str, dict[str, int]] = {}
    for split, dataset in found.datasets.items():
        for name, count in dataset.class_counts().items():
            totals.setdefault(name, {})[split] = count
    ranked = sorted(totals.items(), key=lambda item: -sum(item[1].values()))
    shown = ranked[:_CLASSES][::-1]
    more = f", the {_CLASSES} most frequent of {len(ranked)}" if len(ranked) > _CLASSES else ""
    figure, (axes,) = new_figure((f"Objects{more}",), "objects", "", (9.0, 1.6 + 0.28 * len(shown)))
    left = np.zeros(len(shown))
    for number, split in enumerate(found.datasets):
        counts = np.array([by_split.get(split, 0) for _, by_split in shown], dtype=float)
        places = np.arange(len(shown))
        axes.barh(places, counts, left=left, color=CURVES[number % len(CURVES)], label=_said(split))
        left += counts
    axes.set_yticks(range(len(shown)), [_said(name) for name, _ in shown])
    axes.set_xlim(0, max(1.0, 1.05 * left.max(initial=1)))
    axes.set_ylim(-0.6, len(shown) - 0.4)
    outer_legend(axes, "split")
    return _picture(figure)


def _sizes(found: Examination) -> Image.Image:
    titles = ("Objects: side of a square of their size", "Objects: width to height", "Pictures")
    figure, (sides, shapes, pictures) = new_figure(titles, "", "", (15.0, 4.4))
    for number, (split, dataset) in enumerate(found.datasets.items()):
        color = CURVES[number % len(CURVES)]
        known = [record for record, size in zip(dataset.records, dataset.sizes(), strict=True) if size]
        boxes = np.concatenate([np.zeros((0, 4)), *(record.boxes_xyxy for record in known)])
        width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).T
        for axes, values, edges in (
            (sides, np.sqrt(width * height), np.geomspace(2, 2048, 41)),
            (shapes, width / height, np.geomspace(1 / 16, 16, 33)),
        ):
            if len(values):
                counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
                axes.stairs(counts / len(values), edges, color=color, linewidth=1.8, label=_said(split))
        sizes = np.array([record.size for record in known]).reshape(-1, 2)
        pictures.scatter(sizes[:, 0], sizes[:, 1], s=18, alpha=0.5, color=color, label=_said(split))
    for axes, label in ((sides, "pixels"), (shapes, "width / height")):
        axes.set_xscale("log", base=2)
        axes.relim()
        axes.autoscale(axis="both")
        axes.set_xlabel(label, color=_INK)
        axes.set_ylabel("share of objects", color=_INK)
    for side in (32, 96):  # small to 32, large from 96, as COCO has it
        sides.axvline(side, color="#9aa5b1", linewidth=1, linestyle=(0, (4, 4)))
    pictures.autoscale()
    pictures.margins(0.2)
    pictures.set_xlabel("width", color=_INK)
    pictures.set_ylabel("height", color=_INK)
    outer_legend(pictures, "split")
    return _picture(figure)


def _recall(found: Examination) -> Image.Image | None:
    """The expected recall at a size, and that of a model, over the budget."""
    curves: list[tuple[str, list[float], list[float], Any]] = []
    tokens = found.facts.get("tokens")
    if tokens:
        for number, (split, by_size) in enumerate(tokens["splits"].items()):
            for name, style in (("all", "-"), ("small", ":")):
                if name in by_size:
                    label = f"{split}, {name}, at best at {tokens['size'][0]}x{tokens['size'][1]}"
                    values = by_size[name]["expected_recall"]
                    curves.append((label, tokens["budgets"], values, (CURVES[number % len(CURVES)], style)))
    for number, (split, explained) in enumerate(found.facts.get("recall", {}).items()):
        values = explained["first_layer"]["by_size"]["all"]
        curves.append(
            (f"{split}, the model", explained["budgets"], values, (CURVES[number % len(CURVES)], "--"))
        )
    if not curves:
        return None
    title = ("Objects with a token in the first layer",)
    figure, (axes,) = new_figure(
        title, "share of tokens that a layer works on", "share of objects", (10.0, 4.4)
    )
    for label, budgets, values, (color, style) in curves:
        axes.plot(budgets, values, style, color=color, linewidth=1.8, marker="o", markersize=3, label=label)
    outer_legend(axes, "")
    return _picture(figure)


def _said(name: str) -> str:
    # Matplotlib takes text between dollars for a formula, and names with _ first for none.
    text = name if len(name) <= 40 else f"{name[:39]}…"
    return f" {text}".replace("$", r"\$")


def _picture(figure: Figure) -> Image.Image:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, facecolor="white")
    return Image.open(stream).convert("RGB")

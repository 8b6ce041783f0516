"""What `explain_data` found, as pictures: recall over the budget, and the objects first lost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from focus_detr.evaluation.plots import new_figure, outer_legend, save_figure
from focus_detr.explaining.recall import DataExplanation, DataObject, Group
from focus_detr.images.reading import read_image
from focus_detr.pictures.boxes import contact_sheet
from focus_detr.pictures.palette import CURVES, Color, class_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED_CLASSES = 10
_CELL = 240


def plot_recall(explanation: DataExplanation, file: str | os.PathLike[str]) -> None:
    """Share of objects with a kept token over the budget: by size, and by class."""
    figure, (left, right) = new_figure(
        ("Objects kept, by size", "Objects kept, by class"),
        "mean share of tokens that an encoder layer works on",
        "share of objects with a token in the first layer",
        (13.0, 5.2),
    )
    _curves(left, explanation, explanation.by_size())
    (every, *_) = explanation.by_size(last=True)
    left.plot(explanation.budgets, every.recall, color="#1f2933", linestyle=":", label="all, last layer")
    classes = explanation.by_class()
    shown = sorted(classes, key=lambda group: float(np.mean(group.recall)))[:_NAMED_CLASSES]
    _curves(right, explanation, [group for group in classes if group in shown])
    outer_legend(left, "")
    outer_legend(right, "" if len(shown) == len(classes) else f"the {len(shown)} that lose most")
    save_figure(figure, file)


def lost_sheet(explanation: DataExplanation, most: int = 24) -> Image.Image | None:
    """Crops of the objects first lost, each with the largest budget that loses it; None where none is."""
    lost = explanation.first_lost(most)
    if not lost:
        return None
    names = explanation.dataset.class_names
    captions = [f"{names[each.label]}: {explanation.budgets[explanation.lost_at(each)]:.2g}" for each in lost]
    return contact_sheet(
        crops(explanation, lost), captions, columns=min(6, len(lost)), cell=_CELL, font_size=18,
        title="Objects first lost, and the largest budget without a token of theirs",
    )  # fmt: skip


def crops(explanation: DataExplanation, objects: Sequence[DataObject]) -> list[Image.Image]:
    """Each object in its surroundings, its box drawn, as a square of 240 pixels."""
    drawn: dict[DataObject, Image.Image] = {}
    for index in dict.fromkeys(each.index for each in objects):
        image = read_image(explanation.dataset.records[index].path)
        for each in objects:
            if each.index == index:
                drawn[each] = square_crop(image, each.box_xyxy, class_color(each.label))
    return [drawn[each] for each in objects]


def square_crop(image: Image.Image, box_xyxy: tuple[float, float, float, float], color: Color) -> Image.Image:
    """A box in its surroundings, drawn, as a square of 240 pixels."""
    left, top, right, bottom = box_xyxy
    # Three times the box, or enough of the picture to tell where it is.
    side = max(3 * max(right - left, bottom - top), 64.0)
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    window = image.crop((round(x), round(y), round(x + side), round(y + side)))
    crop = window.resize((_CELL, _CELL), Image.Resampling.BICUBIC)
    zoom = _CELL / side
    edges = ((left - x) * zoom, (top - y) * zoom, (right - x) * zoom, (bottom - y) * zoom)
    ImageDraw.Draw(crop).rectangle(edges, outline=color, width=3)
    return crop


def _curves(axes: Axes, explanation: DataExplanation, groups: Sequence[Group]) -> None:
    for place, group in enumerate(groups):
        whole = group.name == "all"
        axes.plot(
            explanation.budgets,
            group.recall,
            "o-",
            color="#1f2933" if whole else CURVES[place % len(CURVES)],
            linewidth=2.6 if whole else 1.6,
            markersize=4,
            label=f"{group.name}  ({group.objects})",
        )
    own = explanation.budgets[explanation.own]
    axes.axvline(
        own, color="#9aa5b1", linewidth=1, linestyle=(0, (4, 4)), label=f"the model's own, {own:.2g}"
    )

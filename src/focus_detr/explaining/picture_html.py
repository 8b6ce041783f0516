"""What `explain_picture` found, as a page with a slider of budgets."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from focus_detr.explaining.html import data_uri, html_page, paragraphs
from focus_detr.explaining.picture import Found, PictureExplanation, Samples, View
from focus_detr.pictures.overlays import heat_colors
from focus_detr.pictures.palette import CURVES, class_color

_LONGEST = 1280
_MOST_CLASSES = 5
_MOST_OBJECTS = 100
"""Of a budget, the best: each brings its points."""


def explanation_html(explanation: PictureExplanation) -> str:
    """One file: boxes, kept tokens and times of each budget, and where each query looked."""
    own = explanation.own
    counts = ", ".join(
        f"{sum(found.label == label for found in own.objects)} {name}"
        for label, name in enumerate(explanation.class_names)
        if any(found.label == label for found in own.objects)
    )
    return html_page(
        "picture",
        f"What the model sees in {explanation.name}",
        {
            "made_of": f"Host {explanation.host}, token policy {explanation.token_policy}; objects that "
            f"score {_said(explanation.threshold)} or more.",
            "notes": paragraphs(list(explanation.notes.values())),
            "image": data_uri(explanation.image, _LONGEST),
            "alt": f"{explanation.name}; found in it: {counts or 'nothing'}",
            "timing": "Times are of the whole picture, pixels to boxes, on the machine that wrote this page: "
            "the shortest of a few runs.",
        },
        _data(explanation),
    )


def _said(threshold: float | Mapping[str, float]) -> str:
    """One score, or that of each class where there are few."""
    if not isinstance(threshold, Mapping):
        return f"{threshold:.2f}"
    if len(threshold) > _MOST_CLASSES:
        return f"{min(threshold.values()):.2f} to {max(threshold.values()):.2f}, by class,"
    return ", ".join(f"{score:.2f} ({name})" for name, score in threshold.items())


def _data(explanation: PictureExplanation) -> dict[str, Any]:
    levels = [list(level.shape) for level in explanation.own.layers[0].kept]
    scores, strongest = None, 0.0
    if explanation.scores is not None:
        flat = np.concatenate([level.flatten() for level in explanation.scores])
        strongest = float(flat.max())
        scores = _text(np.round(255 * flat).astype(np.uint8))
    shown = [_shown(view, explanation.image.size) for view in explanation.views]
    return {
        "size": list(explanation.image.size),
        "levels": levels,
        "classes": [
            {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*class_color(label))}
            for label, name in enumerate(explanation.class_names)
        ],
        "levelColors": [CURVES[level % len(CURVES)] for level in range(len(levels))],
        "scores": scores,
        "strongest": strongest,
        "heat": heat_colors(np.linspace(0, 1, 64)).round().astype(int).tolist(),
        "own": explanation.views.index(explanation.own),
        "views": shown,
    }


def _shown(view: View, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "budget": view.budget,
        "own": view.own,
        "seconds": view.seconds,
        "layers": [
            {
                "kept": layer.count,
                "bits": _bits(layer.kept),
                "fine": None if layer.fine is None else _bits(layer.fine),
                "fine_count": 0 if layer.fine is None else sum(int(level.sum()) for level in layer.fine),
            }
            for layer in view.layers
        ],
        "objects": [_object(found, size) for found in view.objects[:_MOST_OBJECTS]],
        "partners": view.partners[:_MOST_OBJECTS],
        "lost": [index for index in view.lost if index < _MOST_OBJECTS],
    }


def _object(found: Found, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "label": found.label,
        "score": round(found.score, 4),
        "box": [round(side, 1) for side in found.box_xyxy],
        "points": None if found.samples is None else _points(found.samples, size),
    }


def _points(samples: Samples, size: tuple[int, int]) -> list[list[int]]:
    """x and y in thousandths of the image, level, and weight in thousandths, of each point with any."""
    places = np.round(1000 * np.clip(samples.points / size, -1, 2)).astype(int)
    weights = np.round(1000 * samples.weights).astype(int)
    rows = np.column_stack([places, samples.levels, weights])
    return rows[weights > 0].tolist()


def _bits(levels: list[np.ndarray]) -> str | None:
    flat = np.concatenate([level.flatten() for level in levels])
    return None if flat.all() else _text(np.packbits(flat))


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()

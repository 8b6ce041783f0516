"""Where the model looks: the foreground score of every token, and the tokens each encoder layer keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.pictures.overlays import color_bar, heat_colors, heated, lit, stretched
from focus_detr.pictures.pages import fitted, heading, row, stacked
from focus_detr.printable import percent

if TYPE_CHECKING:
    from focus_detr.inference.predictor import Predictor
    from focus_detr.structures.auto_budget import BudgetLike


def draw_heatmap(predictor: Predictor, image: Image.Image, budget: BudgetLike = None) -> Image.Image:
    """One page: the foreground score over the image, score by level, tokens kept by each encoder layer.

    Tokens are those of a ``budget``, where one is given (see `Predictor.predict`).
    Where they are chosen by their level alone (token_policy='interleaved') there are no scores to draw.

    Raises `FocusDetrError` for a model that selects no tokens (a dense encoder, an exported file).
    """
    outputs = predictor.run([image], budget)
    if getattr(outputs, "plan", None) is None:
        raise FocusDetrError(
            "heatmap: this model selects no tokens; it takes one with token_policy 'focus', 'salience' or "
            "another that selects, not exported"
        )
    return heatmap_page(outputs, image.convert("RGB"))


def heatmap_page(outputs: Any, image: Image.Image, index: int = 0) -> Image.Image:
    """The page for image `index` of a batch that went through the model.

    Args:
        outputs: with `plan`, `spatial_shapes` and `level_sizes` (B,L,2), as the model gives them.
        image: the original of that image, RGB.
    """
    backdrop = fitted(image, 1200)
    parts = [] if outputs.plan.scores is None else score_parts(foreground_scores(outputs, index), backdrop)
    layers = [kept_tokens(outputs, layer, index) for layer in range(len(outputs.plan.counts))]
    return stacked([*parts, *kept_parts(layers, backdrop)])


def kept_parts(layers: Sequence[Sequence[np.ndarray]], backdrop: Image.Image) -> list[Image.Image]:
    """Strips of a page: the tokens of each layer, given as `kept_tokens` gives them."""
    drawn, captions = [], []
    for number, kept in enumerate(layers, start=1):
        count, total = sum(int(level.sum()) for level in kept), sum(level.size for level in kept)
        drawn.append(lit(backdrop, kept))
        captions.append(f"layer {number}: {count:,} of {total:,} tokens ({percent(count / total)})")
    title = "Tokens that each encoder layer works on: the brighter, the more levels keep the place"
    return [heading(title), row(drawn, captions, max(2, min(len(drawn), 3)))]


def score_parts(
    scores: list[np.ndarray],
    backdrop: Image.Image,
    beside: tuple[Image.Image, str] | None = None,
) -> list[Image.Image]:
    """Strips of a page: the foreground score, of all levels and of each, as `foreground_scores` gives it.

    `beside` is the picture left of the first one, with its caption: the backdrop itself, when not given.
    """
    first, caption = beside or (backdrop, "image")
    strongest = max(float(level.max()) for level in scores)
    combined = np.max([stretched(level, backdrop.size) for level in scores], axis=0)
    share = [f"{level.shape[1]} × {level.shape[0]} tokens" for level in scores]
    return [
        row(
            [first, heated(backdrop, combined / strongest)],
            [caption, "foreground score, best of all levels"],
            2,
        ),
        color_bar(strongest),
        heading("Foreground score by level, fine to coarse"),
        row(
            [heated(backdrop, stretched(level, backdrop.size, cells=True) / strongest) for level in scores],
            [f"level {number}: {text}" for number, text in enumerate(share, start=1)],
            max(2, min(len(scores), 4)),
        ),
    ]


def foreground_scores(outputs: Any, index: int = 0) -> list[np.ndarray]:
    """Foreground score (0..1) of each token of one image: one array (H_l, W_l) a level, padding cut off."""
    return by_level(outputs, outputs.plan.scores[index].detach().float().sigmoid().cpu().numpy(), index)


def score_overlay(scores: Sequence[np.ndarray], size: tuple[int, int]) -> Image.Image:
    """The best foreground score of all levels (H_l, W_l) as an RGBA picture of ``size`` (width, height).

    It lies over an image, clear where nothing is expected; colors go to the highest score of the image.
    """
    combined = np.max([stretched(level, size) for level in scores], axis=0)
    heat = np.clip(combined / max(float(combined.max()), 1e-6), 0, 1)
    alpha = 255 * np.minimum(0.85, 1.2 * heat)
    return Image.fromarray(np.dstack([heat_colors(heat), alpha]).astype(np.uint8), "RGBA")


def kept_tokens(outputs: Any, layer: int, index: int = 0) -> list[np.ndarray]:
    """Which tokens of one image a layer works on: one bool array (H_l, W_l) a level, padding cut off."""
    indices, valid = outputs.plan.kept(layer)
    marks = np.zeros(sum(height * width for height, width in outputs.spatial_shapes), dtype=bool)
    marks[indices[index][valid[index]].cpu().numpy()] = True
    return by_level(outputs, marks, index)


def by_level(outputs: Any, values: np.ndarray, index: int = 0) -> list[np.ndarray]:
    """Values (N,) of one image's tokens: one array (H_l, W_l) a level, padding cut off."""
    shapes = [(int(height), int(width)) for height, width in outputs.spatial_shapes]
    valid = shapes if outputs.level_sizes is None else outputs.level_sizes[index].tolist()
    levels, start = [], 0
    for (height, width), (valid_height, valid_width) in zip(shapes, valid, strict=True):
        level = values[start : start + height * width].reshape(height, width)
        levels.append(level[:valid_height, :valid_width])
        start += height * width
    return levels

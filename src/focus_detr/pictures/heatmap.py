"""Where the model looks: the foreground score of every token, and the tokens each encoder layer keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from focus_detr.errors import FocusDetrError
from focus_detr.pictures.boxes import contact_sheet, text_font
from focus_detr.printable import percent

if TYPE_CHECKING:
    from focus_detr.inference.predictor import Predictor

_WIDTH = 1800
_INK, _MUTED, _PAPER = (31, 41, 51), (102, 114, 127), (255, 255, 255)


def draw_heatmap(predictor: Predictor, image: Image.Image, budget: float | None = None) -> Image.Image:
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
    backdrop = _fitted(image, 1200)
    parts = [] if outputs.plan.scores is None else _score_parts(foreground_scores(outputs, index), backdrop)
    parts.append(
        _heading("Tokens that each encoder layer works on: the brighter, the more levels keep the place")
    )
    layers, captions = [], []
    for layer in range(len(outputs.plan.counts)):
        kept = kept_tokens(outputs, layer, index)
        count, total = sum(int(level.sum()) for level in kept), sum(level.size for level in kept)
        layers.append(_lit(backdrop, kept))
        captions.append(f"layer {layer + 1}: {count:,} of {total:,} tokens ({percent(count / total)})")
    parts.append(_row(layers, captions, min(len(layers), 3)))
    page = Image.new("RGB", (_WIDTH, sum(part.height for part in parts)), _PAPER)
    y = 0
    for part in parts:
        page.paste(part, ((_WIDTH - part.width) // 2, y))
        y += part.height
    return page


def _score_parts(scores: list[np.ndarray], backdrop: Image.Image) -> list[Image.Image]:
    strongest = max(float(level.max()) for level in scores)
    combined = np.max([_stretched(level, backdrop.size) for level in scores], axis=0)
    share = [f"{level.shape[1]} × {level.shape[0]} tokens" for level in scores]
    return [
        _row(
            [backdrop, _heated(backdrop, combined / strongest)],
            ["image", "foreground score, best of all levels"],
            2,
        ),
        _color_bar(strongest),
        _heading("Foreground score by level, fine to coarse"),
        _row(
            [_heated(backdrop, _stretched(level, backdrop.size, cells=True) / strongest) for level in scores],
            [f"level {number}: {text}" for number, text in enumerate(share, start=1)],
            min(len(scores), 4),
        ),
    ]


def foreground_scores(outputs: Any, index: int = 0) -> list[np.ndarray]:
    """Foreground score (0..1) of each token of one image: one array (H_l, W_l) a level, padding cut off."""
    return _levels(outputs, outputs.plan.scores[index].detach().float().sigmoid().cpu().numpy(), index)


def score_overlay(scores: Sequence[np.ndarray], size: tuple[int, int]) -> Image.Image:
    """The best foreground score of all levels (H_l, W_l) as an RGBA picture of ``size`` (width, height).

    It lies over an image, clear where nothing is expected; colors go to the highest score of the image.
    """
    combined = np.max([_stretched(level, size) for level in scores], axis=0)
    heat = np.clip(combined / max(float(combined.max()), 1e-6), 0, 1)
    alpha = 255 * np.minimum(0.85, 1.2 * heat)
    return Image.fromarray(np.dstack([_colors(heat), alpha]).astype(np.uint8), "RGBA")


def kept_tokens(outputs: Any, layer: int, index: int = 0) -> list[np.ndarray]:
    """Which tokens of one image a layer works on: one bool array (H_l, W_l) a level, padding cut off."""
    indices, valid = outputs.plan.kept(layer)
    marks = np.zeros(sum(height * width for height, width in outputs.spatial_shapes), dtype=bool)
    marks[indices[index][valid[index]].cpu().numpy()] = True
    return _levels(outputs, marks, index)


def _levels(outputs: Any, values: np.ndarray, index: int) -> list[np.ndarray]:
    shapes = [(int(height), int(width)) for height, width in outputs.spatial_shapes]
    valid = shapes if outputs.level_sizes is None else outputs.level_sizes[index].tolist()
    levels, start = [], 0
    for (height, width), (valid_height, valid_width) in zip(shapes, valid, strict=True):
        level = values[start : start + height * width].reshape(height, width)
        levels.append(level[:valid_height, :valid_width])
        start += height * width
    return levels


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _stretched(level: np.ndarray, size: tuple[int, int], cells: bool = False) -> np.ndarray:
    """A level (H_l, W_l) at the size of a picture (width, height), smooth or as cells."""
    method = Image.Resampling.NEAREST if cells else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(level.astype(np.float32)).resize(size, method))


def _heated(backdrop: Image.Image, heat: np.ndarray) -> Image.Image:
    """The picture in grey under colors that show where `heat` (H,W), 0..1, is."""
    grey = np.asarray(backdrop.convert("L"), dtype=np.float32)[..., None] * 0.75
    weight = 0.30 + 0.45 * heat[..., None]
    return Image.fromarray((grey * (1 - weight) + _colors(heat) * weight).astype(np.uint8))


def _lit(backdrop: Image.Image, kept: Sequence[np.ndarray]) -> Image.Image:
    """The picture, dark where no level keeps its token."""
    light = np.mean([_stretched(level, backdrop.size, cells=True) for level in kept], axis=0)
    light = light[..., None] ** 0.7  # a place that one level of four keeps must still be seen
    pixels = np.asarray(backdrop, dtype=np.float32)
    night = np.array([18, 24, 48], dtype=np.float32) * 0.6 + pixels.mean(-1, keepdims=True) * 0.12
    return Image.fromarray((pixels * light + night * (1 - light)).astype(np.uint8))


def _colors(values: np.ndarray) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps["inferno"](np.clip(values, 0, 1))[..., :3].astype(np.float32) * 255


def _row(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    gap = 24
    cell = (_WIDTH - gap * (columns + 1)) // columns
    return contact_sheet(pictures, captions, columns=columns, cell=cell, gap=gap, font_size=24)


def _heading(text: str) -> Image.Image:
    strip = Image.new("RGB", (_WIDTH, 84), _PAPER)
    ImageDraw.Draw(strip).text((24, 54), text, fill=_INK, font=text_font(32), anchor="lm")
    return strip


def _color_bar(strongest: float) -> Image.Image:
    width, height = 560, 18
    strip = Image.new("RGB", (_WIDTH, 56), _PAPER)
    ramp = _colors(np.tile(np.linspace(0, 1, width), (height, 1))).astype(np.uint8)
    left = (_WIDTH - width) // 2
    strip.paste(Image.fromarray(ramp), (left, 18))
    drawing = ImageDraw.Draw(strip)
    drawing.text((left - 14, 27), "0", fill=_MUTED, font=text_font(22), anchor="rm")
    drawing.text((left + width + 14, 27), f"{strongest:.2f}", fill=_MUTED, font=text_font(22), anchor="lm")
    return strip

"""Numbers of tokens over a picture: warm where a score is high, dark where no token is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from focus_detr.pictures.boxes import text_font
from focus_detr.pictures.pages import MUTED, PAPER, WIDTH


def stretched(level: np.ndarray, size: tuple[int, int], cells: bool = False) -> np.ndarray:
    """A level (H_l, W_l) at the size of a picture (width, height), smooth or as cells."""
    method = Image.Resampling.NEAREST if cells else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(level.astype(np.float32)).resize(size, method))


def heated(backdrop: Image.Image, heat: np.ndarray) -> Image.Image:
    """The picture in grey under colors that show where `heat` (H,W), 0..1, is."""
    grey = np.asarray(backdrop.convert("L"), dtype=np.float32)[..., None] * 0.75
    weight = 0.30 + 0.45 * heat[..., None]
    return Image.fromarray((grey * (1 - weight) + heat_colors(heat) * weight).astype(np.uint8))


def lit(backdrop: Image.Image, kept: Sequence[np.ndarray]) -> Image.Image:
    """The picture, dark where no level keeps its token; one bool array (H_l, W_l) a level."""
    light = np.mean([stretched(level, backdrop.size, cells=True) for level in kept], axis=0)
    light = light[..., None] ** 0.7  # a place that one level of four keeps must still be seen
    pixels = np.asarray(backdrop, dtype=np.float32)
    night = np.array([18, 24, 48], dtype=np.float32) * 0.6 + pixels.mean(-1, keepdims=True) * 0.12
    return Image.fromarray((pixels * light + night * (1 - light)).astype(np.uint8))


def heat_colors(values: np.ndarray) -> np.ndarray:
    """Colors (...,3), 0..255, of values 0..1."""
    import matplotlib

    return matplotlib.colormaps["inferno"](np.clip(values, 0, 1))[..., :3].astype(np.float32) * 255


def color_bar(strongest: float) -> Image.Image:
    """A strip that says which colors `heated` has from 0 to its strongest value."""
    width, height = 560, 18
    strip = Image.new("RGB", (WIDTH, 56), PAPER)
    ramp = heat_colors(np.tile(np.linspace(0, 1, width), (height, 1))).astype(np.uint8)
    left = (WIDTH - width) // 2
    strip.paste(Image.fromarray(ramp), (left, 18))
    drawing = ImageDraw.Draw(strip)
    drawing.text((left - 14, 27), "0", fill=MUTED, font=text_font(22), anchor="rm")
    drawing.text((left + width + 14, 27), f"{strongest:.2f}", fill=MUTED, font=text_font(22), anchor="lm")
    return strip

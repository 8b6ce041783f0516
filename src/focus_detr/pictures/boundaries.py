"""Where a mask ends and where its object does, drawn over the picture, with what differs between them."""

# Shapes: h w of the part of the picture that is drawn.

from __future__ import annotations

import numpy as np
from PIL import Image

from focus_detr.pictures.boxes import eroded
from focus_detr.structures.masks import Mask

TRUTH, FOUND = (0, 114, 255), (255, 106, 0)
"""Colors of the two lines, and of what one covers and the other does not."""
_TINT = 0.5
_MARGIN = 0.2  # around both, as a share of their longer side
_SMALLEST = 24  # pixels of a part's side: a few alone show nothing
_CELLS = 160  # of the drawn part's longer side, for a line


def draw_boundaries(image: Image.Image, truth: Mask, found: Mask, cell: int = 360) -> Image.Image:
    """The part of a picture around an object, ``cell`` pixels long, as large as it may be.

    The object's boundary and what was missed of it in `TRUTH`'s color, the mask's and what is too much in
    `FOUND`'s.
    """
    size = (image.height, image.width)
    bitmaps = [mask.decode(size) for mask in (truth, found)]
    left, top, right, bottom = _part(bitmaps[0] | bitmaps[1])
    scale = cell / max(right - left, bottom - top)
    wanted = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    part = image.convert("RGB").crop((left, top, right, bottom)).resize(wanted, Image.Resampling.BICUBIC)
    pixels = np.array(part)
    # Of single pixels, that lines run where the masks end.
    true, said = (
        np.asarray(
            Image.fromarray(each[top:bottom, left:right]).resize(wanted, Image.Resampling.NEAREST), bool
        )
        for each in bitmaps
    )
    for covered, other, color in ((true, said, TRUTH), (said, true, FOUND)):
        _paint(pixels, covered & ~other, color, _TINT)
    width = max(1, round(cell / _CELLS))
    for covered, color in ((true, TRUTH), (said, FOUND)):
        inner = eroded(covered, width)
        _paint(pixels, covered & ~inner, color, 1.0)
    return Image.fromarray(pixels)


def _part(covered: np.ndarray) -> tuple[int, int, int, int]:
    # left, top, right, bottom around what is covered; all of the picture where nothing is.
    sides = []
    for axis, length in ((0, covered.shape[1]), (1, covered.shape[0])):
        places = np.flatnonzero(covered.any(axis))
        sides.append((int(places[0]), int(places[-1]) + 1) if len(places) else (0, length))
    margin = _MARGIN * max(high - low for low, high in sides)
    found = []
    for (low, high), length in zip(sides, covered.shape[::-1], strict=True):
        more = max(margin, (_SMALLEST - (high - low)) / 2)
        found.append((max(0, int(low - more)), min(length, int(np.ceil(high + more)))))
    (left, right), (top, bottom) = found
    return left, top, right, bottom


def _paint(pixels: np.ndarray, where: np.ndarray, color: tuple[int, int, int], share: float) -> None:
    pixels[where] = pixels[where] * (1 - share) + np.array(color, np.float32) * share

"""Lines and zones that objects are counted at, drawn onto a frame, with the counts so far."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from focus_detr.inference.tracking import Counts
from focus_detr.pictures.boxes import text_font

_COLOR, _INK = (255, 221, 0), (31, 41, 51)


def draw_counts(image: Image.Image, counts: Counts, video: str) -> Image.Image:
    """A copy of a frame of ``video``, RGB, with the lines and zones of ``counts``.

    A line has the number of crossings to its right and to its left, `R 3  L 1`; a zone, of objects in it.
    """
    page = image.convert("RGB") if image.mode != "RGB" else image.copy()
    drawing = ImageDraw.Draw(page)
    width = max(2, round(max(page.size) / 320))
    crossings, inside = counts.now(video)
    for line, (right, left) in zip(counts.lines, crossings, strict=True):
        drawing.line([line.start, line.end], fill=_COLOR, width=width)
        _tag(drawing, [line.start, line.end], f"R {right}  L {left}", width)
    for zone, number in zip(counts.zones, inside, strict=True):
        corners = list(zone.corners)
        drawing.line([*corners, corners[0]], fill=_COLOR, width=width, joint="curve")
        _tag(drawing, corners, str(number), width)
    return page


def _tag(drawing: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], text: str, width: int) -> None:
    """A text in the middle of points."""
    middle = (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
    font = text_font(max(12, 6 * width))
    left, top, right, bottom = drawing.textbbox(middle, text, font=font, anchor="mm")
    pad = 2 * width
    drawing.rectangle((left - pad, top - pad, right + pad, bottom + pad), fill=_COLOR)
    drawing.text(middle, text, fill=_INK, font=font, anchor="mm")

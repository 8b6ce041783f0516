"""Pages of pictures: strips of one width, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from focus_detr.pictures.boxes import contact_sheet, text_font

WIDTH = 1800
INK, MUTED, PAPER = (31, 41, 51), (102, 114, 127), (255, 255, 255)


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """A page of strips."""
    page = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), PAPER)
    y = 0
    for part in parts:
        page.paste(part, ((WIDTH - part.width) // 2, y))
        y += part.height
    return page


def row(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """A strip of pictures in so many columns, each as wide as they allow."""
    gap = 24
    cell = (WIDTH - gap * (columns + 1)) // columns
    return contact_sheet(pictures, captions, columns=columns, cell=cell, gap=gap, font_size=24)


def heading(text: str) -> Image.Image:
    """A strip with a title."""
    strip = Image.new("RGB", (WIDTH, 84), PAPER)
    ImageDraw.Draw(strip).text((24, 54), text, fill=INK, font=text_font(32), anchor="lm")
    return strip


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The image with a longer side of so many pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)

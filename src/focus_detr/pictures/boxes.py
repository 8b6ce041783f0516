"""Annotated images: crisp boxes and labels in colors of their class, at any image size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from focus_detr.inference.results import Detections
from focus_detr.pictures.palette import Color, class_color, ink_on
from focus_detr.structures.masks import Mask

Rectangle = tuple[float, float, float, float]

_SMALLEST_SIDE = 320
"""Smaller images are enlarged before drawing, or labels would cover what they name."""
_LONGEST_SIDE = 60_000
"""Larger images are shrunk: JPEG holds 65,535 pixels a side, some of them for the legend."""
_SEEN_WHOLE = 4096
"""No screen shows a longer side at once."""
_TINT = 0.45
"""How much of a covered pixel is its class's color."""
_INK, _PAPER, _RULE = (31, 41, 51), (255, 255, 255), (226, 231, 236)


def draw_detections(
    image: Image.Image,
    detections: Detections,
    *,
    labels: bool = True,
    scores: bool = True,
    legend: bool = True,
) -> Image.Image:
    """A copy of the image with its objects drawn; small images are enlarged so that labels stay readable, and
    those too long for a JPEG are shrunk.

    Args:
        image: the original image, RGB.
        labels: name each box, where there is room: labels never cover one another. Tracks have their number.
        scores: add the score to each label.
        legend: add a strip below with the number of objects of each class.
    """
    factor: float = max(1, -(-_SMALLEST_SIDE // min(image.size)))
    # One very long side would make an enlarged strip of an image huge.
    factor = max(1, min(factor, 4096 // max(image.size)))
    factor = min(factor, _LONGEST_SIDE / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    canvas = rgb.resize(size, Image.Resampling.BICUBIC)  # a copy, at any size
    order = sorted(range(len(detections)), key=lambda index: float(detections.scores[index]))
    boxes = (factor * detections.boxes_xyxy.astype(float)).tolist()
    unit = _fitting_unit(canvas, boxes)
    if detections.masks is not None:
        scale = (size[0] / image.width, size[1] / image.height)
        moved = [detections.masks[index].transform(size, scale) for index in order]
        canvas = tinted(canvas, moved, detections.labels[order])
    drawing = ImageDraw.Draw(canvas)
    # The best come last, on top of the others.
    for index in order:
        _outline(drawing, canvas.size, boxes[index], class_color(int(detections.labels[index])), unit)
    if labels:
        taken: list[Rectangle] = []
        for index in reversed(order):
            label = int(detections.labels[index])
            text = detections.names[label] + (f" {detections.scores[index]:.2f}" if scores else "")
            if detections.track_ids is not None and detections.track_ids[index] >= 0:
                text = f"#{detections.track_ids[index]} {text}"
            _tag(drawing, canvas.size, boxes[index], text, class_color(label), unit, taken)
    return _with_legend(canvas, detections, _unit(canvas)) if legend else canvas


def tinted(
    canvas: Image.Image, masks: Sequence[Mask | None], labels: Sequence[int] | np.ndarray
) -> Image.Image:
    """The picture with its objects in the colors of their classes, and their edges in full color.

    Args:
        masks: in its pixels; the last is in front.
    """
    size = (canvas.height, canvas.width)
    pixels = np.array(canvas)
    for mask, label in zip(masks, labels, strict=True):
        if mask is None:
            continue
        bitmap = mask.decode(size)
        rows, columns = np.nonzero(bitmap.any(1))[0], np.nonzero(bitmap.any(0))[0]
        if not len(rows):
            continue
        place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        inner, part, color = bitmap[place], pixels[place], np.array(class_color(int(label)), np.float32)
        part[inner] = part[inner] * (1 - _TINT) + color * _TINT
        part[inner & ~eroded(inner, max(1, round(_unit(canvas) / 2)))] = color
    return Image.fromarray(pixels)


def eroded(bitmap: np.ndarray, by: int) -> np.ndarray:
    """Pixels (H,W) all of whose neighbours within ``by`` in rows and columns are covered, too."""
    kept = np.pad(bitmap, by)
    for axis in (0, 1):
        kept = np.logical_and.reduce([np.roll(kept, step, axis) for step in range(-by, by + 1)])
    return kept[by:-by, by:-by]


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell: int = 480,
    gap: int | None = None,
    font_size: int | None = None,
    title: str | None = None,
) -> Image.Image:
    """Images on one page, fitted into cells of `cell` pixels `gap` apart, row by row, captions below."""
    count = max(1, len(images))
    columns = columns or min(count, max(1, round(count**0.5 * 1.2)))
    rows = -(-count // columns)
    gap = max(8, cell // 30) if gap is None else gap
    font, heading = text_font(font_size or max(12, cell // 26)), text_font(max(16, cell // 16))
    line = font.size * 1.7 if captions else 0
    fitted = [_fit(image, cell) for image in images]
    # A row is as high as its highest image, or wide images would float in empty cells.
    grid = [fitted[row * columns : (row + 1) * columns] for row in range(rows)]
    heights = [max((image.height for image in row), default=cell) for row in grid]
    top = gap + (heading.size * 1.8 if title else 0)
    page_size = (columns * (cell + gap) + gap, round(top + sum(height + line + gap for height in heights)))
    page = Image.new("RGB", page_size, _PAPER)
    drawing = ImageDraw.Draw(page)
    if title:
        drawing.text((gap, gap), title, fill=_INK, font=heading)
    y = top
    for row, height in enumerate(heights):
        for column, image in enumerate(grid[row]):
            left = gap + column * (cell + gap)
            page.paste(image, (left + (cell - image.width) // 2, round(y) + (height - image.height) // 2))
            if captions:
                text = _shortened(captions[row * columns + column], font, cell)
                drawing.text(
                    (left + cell / 2, y + height + line / 2), text, fill=_INK, font=font, anchor="mm"
                )
        y += height + line + gap
    return page


def _unit(image: Image.Image) -> float:
    """The width of a line: all else is a multiple of it."""
    return max(2.0, (image.width * image.height) ** 0.5 / 320)


def _fitting_unit(image: Image.Image, boxes: Sequence[Rectangle]) -> float:
    """The width of a line around these boxes: of very large pictures, which are looked at part by part, no
    more than their objects bear, where those are small."""
    unit = _unit(image)
    if not boxes or max(image.size) <= _SEEN_WHOLE:
        return unit
    side = float(np.median([max(box[2] - box[0], box[3] - box[1]) for box in boxes]))
    return min(unit, max(2.0, side / 40))


@lru_cache(maxsize=32)
def text_font(size: float) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels, on any system."""
    # Fonts of the system know more scripts than the one that comes with Pillow.
    for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc"):
        try:
            return ImageFont.truetype(name, round(size))
        except OSError:
            continue
    # Declared to give a bitmap font, too: only where Pillow has no FreeType.
    return ImageFont.load_default(round(size))  # type: ignore[return-value]


def _outline(
    drawing: ImageDraw.ImageDraw, size: tuple[int, int], box: Rectangle, color: Color, unit: float
) -> None:
    left, top, right, bottom = _ordered(box, size)
    # A thin dark edge on both sides keeps any color visible on any background.
    drawing.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=round(unit) + 2)
    drawing.rectangle((left, top, right, bottom), outline=color, width=round(unit))


def _ordered(box: Rectangle, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, right = (min(max(0, round(value)), size[0] - 1) for value in box[0::2])
    top, bottom = (min(max(0, round(value)), size[1] - 1) for value in box[1::2])
    return left, top, max(left, right), max(top, bottom)


def _tag(
    drawing: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Rectangle,
    text: str,
    color: Color,
    unit: float,
    taken: list[Rectangle],
) -> None:
    font = text_font(max(12, 5.2 * unit))
    pad = 0.28 * font.size
    width, height = font.getlength(text) + 2 * pad, font.size * 1.35
    left, top, right, bottom = _ordered(box, size)
    edge = round(unit) / 2
    shift = min(left - edge, size[0] - width)
    corners = (
        (shift, top - height + edge),
        (shift, bottom - edge),
        (left - edge, top - edge),
        (right - width + edge, top - height + edge),
        (right - width + edge, bottom - edge),
    )
    for x, y in corners:
        x, y = max(0.0, x), max(0.0, y) if y > -height / 3 else y
        tag = (x, y, x + width, y + height)
        fits = y >= 0 and tag[2] <= size[0] + 1 and tag[3] <= size[1] + 1
        if fits and not any(_overlap(tag, other) for other in taken):
            taken.append(tag)
            drawing.rectangle(tag, fill=color)
            drawing.text((x + pad, y + height / 2), text, fill=ink_on(color), font=font, anchor="lm")
            return


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return (
        first[0] < second[2] - 1
        and second[0] < first[2] - 1
        and first[1] < second[3] - 1
        and second[1] < first[3] - 1
    )


def _with_legend(canvas: Image.Image, detections: Detections, unit: float) -> Image.Image:
    font = text_font(max(14, 6 * unit))
    pad, swatch = 0.7 * font.size, 0.75 * font.size
    counts = sorted(Counter(detections.labels.tolist()).items())
    entries = [(class_color(label), f"{count} {detections.names[label]}") for label, count in counts]
    entries = entries or [(_RULE, "nothing found")]
    lines: list[list[tuple[float, Color, str]]] = [[]]
    x = pad
    for color, text in entries:
        width = swatch + 0.4 * font.size + font.getlength(text) + 1.4 * font.size
        if lines[-1] and x + width - font.size > canvas.width:
            lines.append([])
            x = pad
        lines[-1].append((x, color, text))
        x += width
    height = round(pad + len(lines) * 1.45 * font.size + 0.6 * pad)
    page = Image.new("RGB", (canvas.width, canvas.height + height), _PAPER)
    page.paste(canvas)
    drawing = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        middle = canvas.height + pad + (row + 0.5) * 1.45 * font.size - 0.1 * font.size
        for x, color, text in line:
            drawing.rectangle((x, middle - swatch / 2, x + swatch, middle + swatch / 2), fill=color)
            drawing.text((x + swatch + 0.4 * font.size, middle), text, fill=_INK, font=font, anchor="lm")
    return page


def _fit(image: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

"""Very large JPEG files, read at a fraction of their size for a model that sees far fewer pixels.

A JPEG file holds blocks of 8x8 pixels as frequencies; its decoder can leave out the high ones and give each
block 4x4, 2x2 or 1 pixels, at a fraction of the time and memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, JpegImagePlugin

from focus_detr.images.reading import (
    MAX_PIXELS,
    QUARTER_TURNS,
    ImageSource,
    decoding,
    flat_rgb,
    header_of,
    orientation,
    read_image,
    turned,
)

SizeRule = Callable[[int, int], tuple[int, int]]
"""(height, width) of an image -> (height, width) that it will be resized to."""

LARGE_PIXELS = 50_000_000
"""Up to here, the size of a large camera's pictures, every pixel is decoded."""

SPARE = 3
"""How many times the pixels wanted along a side are decoded at least: resizing then averages what is left."""


@dataclass(frozen=True)
class SizedImage:
    """An image, and the `size` (width, height) of the upright picture that it shows, which may be larger."""

    image: Image.Image
    size: tuple[int, int]


def read_for(source: ImageSource, rule: SizeRule, max_pixels: int = MAX_PIXELS) -> SizedImage:
    """As `read_image`, for use at the size that `rule` gives; resizing by it afterwards changes nothing more.

    A JPEG file of more than `LARGE_PIXELS`, at least 2 * `SPARE` times as wide and high as wanted, is decoded
    at 1/2, 1/4 or 1/8 and resized: pixels differ from those of the whole picture, resized, by a grey level or
    two (`benchmarks/large_pictures.py`). All other files are read as they are. Progressive files need
    memory for all their frequencies, whatever size is decoded.
    """
    with decoding(source, max_pixels) as image:
        if isinstance(image, JpegImagePlugin.JpegImageFile) and image.width * image.height > LARGE_PIXELS:
            size, way = header_of(image).size, orientation(image)
            height, width = rule(size[1], size[0])
            stored = (height, width) if way in QUARTER_TURNS else (width, height)
            if (box := _decode_less(image, stored)) is not None:
                image.load()
                # The box leaves out what the last blocks have beyond the picture: coordinates stay exact.
                page = flat_rgb(image).resize(stored, Image.Resampling.BILINEAR, box)
                return SizedImage(turned(page, way), size)
    whole = read_image(source, max_pixels)
    return SizedImage(whole, whole.size)


def _decode_less(
    image: JpegImagePlugin.JpegImageFile, wanted: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """Where the picture lies in what will be decoded; None where everything is to be decoded."""
    needed = (wanted[0] * SPARE, wanted[1] * SPARE)
    if min(image.width // needed[0], image.height // needed[1]) < 2:
        return None
    drafted = image.draft(None, needed)
    return None if drafted is None else drafted[1]

"""Very large JPEG files are decoded smaller for a model that sees few of their pixels; all others are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.images.reading import read_image
from focus_detr.images.reduced import LARGE_PIXELS, read_for

RULE = FocusDetrImageProcessor(size={"shortest_edge": 24, "longest_edge": 32}).size_of


@pytest.fixture
def any_size_is_large(monkeypatch):
    monkeypatch.setattr("focus_detr.images.reduced.LARGE_PIXELS", 0)


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth shapes, as photographs have them, and an edge near the right and the lower border."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    image.paste("white", (width * 7 // 8, 0, width, height))
    image.paste("black", (0, height * 7 // 8, width, height))
    return image.filter(ImageFilter.GaussianBlur(1)).convert(mode)


def jpeg(image: Image.Image, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, **options)
    return stream


def resized(image: Image.Image) -> np.ndarray:
    height, width = RULE(image.height, image.width)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).astype(int)


# 8, 4 and 2 pixels become one; sizes that blocks of 8 do not divide; other colours; progressive.
@pytest.mark.parametrize(
    ("size", "mode", "options"),
    [
        ((1000, 700), "RGB", {}),
        ((1003, 701), "RGB", {"progressive": True}),
        ((509, 391), "L", {}),
        ((393, 511), "CMYK", {}),
        ((201, 160), "RGB", {"subsampling": 0}),
    ],
)
def test_pixels_are_those_of_the_whole_picture_resized(any_size_is_large, size, mode, options) -> None:
    stream = jpeg(scene(*size, mode), **options)
    small = read_for(stream, RULE)
    assert small.size == size
    assert small.image.size == RULE(size[1], size[0])[::-1]  # what comes after has nothing to resize
    gap = np.abs(np.asarray(small.image).astype(int) - resized(read_image(stream)))
    assert gap.mean() < 1 and gap.max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(640, 400), (512, 512)])
def test_orientation_is_applied_to_pixels_and_size(any_size_is_large, orientation: int, size) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = jpeg(scene(*size), exif=exif)
    small, whole = read_for(stream, RULE), read_image(stream)
    assert small.size == whole.size
    assert np.abs(np.asarray(small.image).astype(int) - resized(whole)).max() <= 8


def test_pictures_of_cameras_keep_every_pixel() -> None:
    stream = jpeg(scene(1000, 700))
    assert LARGE_PIXELS >= 48_000_000
    np.testing.assert_array_equal(np.asarray(read_for(stream, RULE).image), np.asarray(read_image(stream)))


@pytest.mark.parametrize("suffix", ["PNG", "WEBP", "TIFF"])
def test_other_formats_keep_every_pixel(any_size_is_large, suffix: str) -> None:
    stream = io.BytesIO()
    scene(500, 400).save(stream, suffix)
    np.testing.assert_array_equal(np.asarray(read_for(stream, RULE).image), np.asarray(read_image(stream)))


def test_pictures_not_much_larger_than_wanted_keep_every_pixel(any_size_is_large) -> None:
    stream = jpeg(scene(170, 130))
    np.testing.assert_array_equal(np.asarray(read_for(stream, RULE).image), np.asarray(read_image(stream)))


def test_much_less_is_decoded(any_size_is_large, monkeypatch) -> None:
    """The whole picture is in memory at no time: Pillow is asked for an eighth of its sides."""
    stream, decoded = jpeg(scene(1600, 1200)), []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: (decoded.append(image.size), load(image))[1])
    read_for(stream, RULE)
    assert (200, 150) in decoded and max(decoded) <= (200, 150)

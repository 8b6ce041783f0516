"""Reading any image file into upright 8-bit RGB, and the size rule of resizing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from focus_detr.errors import FocusDetrError

ImageSource = str | os.PathLike[str] | IO[bytes]

_ORIENTATION_TAG = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


@dataclass(frozen=True)
class ImageHeader:
    """`size` (width, height) upright, `stored_size` as the pixels lie in the file."""

    size: tuple[int, int]
    stored_size: tuple[int, int]


def read_image(source: ImageSource) -> Image.Image:
    """Decode an image file to upright 8-bit RGB (see `to_rgb`); of an animation, its first frame.

    Raises `FocusDetrError` naming the file when it is missing, not an image, or cut short.
    """
    with _open(source) as image:
        try:
            image.seek(0)
            image.load()
            return to_rgb(image)
        except Exception as error:  # decoders raise many kinds, from OSError to struct.error
            raise FocusDetrError(
                f"{_name(source)}: the image is damaged or cut short ({error}). "
                "Copy it again from its source, or remove it from the data set."
            ) from error


def image_header(source: ImageSource) -> ImageHeader:
    """Size of an image from its header alone, without decoding it. Errors as `read_image`."""
    with _open(source) as image:
        width, height = image.size
        turned = _orientation(image) in _QUARTER_TURNS
        return ImageHeader((height, width) if turned else (width, height), (width, height))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image -> upright 8-bit RGB.

    Transparency is laid over white: what lies under transparent pixels is arbitrary (often black, or
    whatever a drawing program left there), and white is the page such pictures are made for and seen on.
    16-bit grayscale is divided by 257, so that its full range becomes 0..255 and equal values stay equal
    across images. Floating point is taken as 0..1 if it never exceeds 1, else as 0..255.
    """
    image = _upright(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        return page.convert("RGB")
    return image.convert("RGB")


def resized_size(height: int, width: int, shortest_edge: int, longest_edge: int | None) -> tuple[int, int]:
    """(height, width) with the shorter side at `shortest_edge`, the longer kept within `longest_edge`.

    The rounding is that of detectron2's ResizeShortestEdge, which trained the published weights.
    """
    scale = shortest_edge / min(height, width)
    if height < width:
        new_height, new_width = float(shortest_edge), scale * width
    else:
        new_height, new_width = scale * height, float(shortest_edge)
    longest = max(new_height, new_width)
    if longest_edge is not None and longest > longest_edge:
        new_height *= longest_edge / longest
        new_width *= longest_edge / longest
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def target_size(height: int, width: int, size: dict[str, int]) -> tuple[int, int]:
    """(height, width) that `size` asks for: {"height", "width"} stretches, {"shortest_edge"[,
    "longest_edge"]} keeps the shape."""
    if "height" in size:
        return size["height"], size["width"]
    return resized_size(height, width, size["shortest_edge"], size.get("longest_edge"))


def check_size(size: int | dict[str, int]) -> dict[str, int]:
    """The size dictionary `size` stands for (an int is a shortest edge), or `FocusDetrError`."""
    as_dict = (
        {"shortest_edge": size}
        if isinstance(size, int)
        else {k: v for k, v in dict(size).items() if v is not None}
    )
    allowed = ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"})
    if set(as_dict) not in allowed:
        raise FocusDetrError(
            f"size={size!r}: give {{'shortest_edge': ..., 'longest_edge': ...}} to keep the image's "
            "shape, or {'height': ..., 'width': ...} to stretch it."
        )
    for key, value in as_dict.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FocusDetrError(f"size[{key!r}]={value!r}: must be a whole number of pixels, 1 or more.")
    if as_dict.get("longest_edge", 2**31) < as_dict.get("shortest_edge", 0):
        raise FocusDetrError(f"size={size!r}: longest_edge must not be smaller than shortest_edge.")
    return as_dict


def _open(source: ImageSource) -> Image.Image:
    try:
        return Image.open(source)
    except FileNotFoundError as error:
        raise FocusDetrError(f"{_name(source)}: no such image file. Check the path.") from error
    except IsADirectoryError as error:
        raise FocusDetrError(f"{_name(source)}: is a folder, not an image file.") from error
    except Image.UnidentifiedImageError as error:
        raise FocusDetrError(
            f"{_name(source)}: not an image of a known format (or empty). "
            "Convert it to JPEG or PNG, or remove it."
        ) from error
    except Exception as error:  # a decoder choking on a broken header, or a decompression bomb
        raise FocusDetrError(f"{_name(source)}: cannot be read as an image ({error}).") from error


def _name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "image data"))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF says nothing about orientation; the pixels are still good
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
        return np.clip(values * scale + 0.5, 0, 255).astype(np.uint8)
    sixteen_bits = values.max(initial=0) <= 0xFFFF
    divisor = 0x101 if sixteen_bits else 0x1010101
    return np.clip(values.astype(np.int64) // divisor, 0, 255).astype(np.uint8)

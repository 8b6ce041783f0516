"""Reading any image file into upright 8-bit RGB, and the size rule of resizing."""

from __future__ import annotations

import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
from PIL import Image, TiffImagePlugin

from focus_detr.errors import FocusDetrError, TooLargeError
from focus_detr.images.archives import open_member
from focus_detr.printable import printable

ImageSource = str | os.PathLike[str] | IO[bytes]

MAX_PIXELS = 200_000_000
"""Of one image: 600 MB as RGB, above any camera, below most mosaics of satellites and slides."""

_BAND_PIXELS = 1 << 20
_OVERSHOOT, _DARK = 1.5, 32.0
_PROGRAMS = {"EPS"}  # read by starting another program
_NOT_READ = {
    "HEIC, which is not read. Convert it to JPEG or PNG.": re.compile(rb"(?s)....ftyp(hei|hev|mif1|msf1)"),
    "a PDF document, which is not read. Convert its pages to PNG.": re.compile(rb"%PDF"),
    "PostScript, which is not read. Convert it to PNG.": re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"),
    "SVG, XML or HTML, and no image. Convert it to PNG, or remove it.": re.compile(rb"\s*<[!?a-zA-Z]"),
    "a video by the name of an image. Give it its own ending.": re.compile(
        rb"(?s)....(ftyp(?!avi[fs])|moov)|\x1aE\xdf\xa3|RIFF....AVI "
    ),
    "an archive. Give it its own ending, or unpack it.": re.compile(rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b"),
}
"""By how they begin."""
_WIDTH_TAG, _HEIGHT_TAG, _ORIENTATION_TAG = 0x0100, 0x0101, 0x0112
QUARTER_TURNS = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageHeader:
    """`size` (width, height) upright, `stored_size` as the pixels lie in the file."""

    size: tuple[int, int]
    stored_size: tuple[int, int]


def read_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file to upright 8-bit RGB (see `to_rgb`); of an animation, its first frame.

    At the most, the picture as its file has it and the RGB one are in memory together.

    Args:
        max_pixels: an image of more is refused before it is decoded.

    Raises `FocusDetrError` naming the file when it is missing, not an image, cut short, or too large.
    """
    with decoding(source, max_pixels) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # It makes room for its pixels by itself only within Pillow's own limit, and takes what is there.
            image.im = Image.new(image.mode, _stored_size(image)).im
        image.load()
        check_pixels(image.size, max_pixels, _name(source))  # of icons, the size is known only now
        return _upright_rgb(image)


@contextmanager
def decoding(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image of a file that is open while in use, at its first frame, its pixels not yet read.

    Raises `FocusDetrError` as `read_image`, for what its decoder raises in the block, too.
    """
    with _opened(source) as image:
        check_pixels(image.size, max_pixels, _name(source))
        try:
            image.seek(0)
            yield image
        except FocusDetrError:
            raise
        except Exception as error:  # decoders raise many kinds, from OSError to struct.error
            raise FocusDetrError(
                f"{_name(source)}: the image is damaged or cut short ({_reason(error)}). "
                "Copy it again from its source, or remove it from the data set."
            ) from error


def image_header(source: ImageSource, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Size of an image from its header alone, without decoding it. Errors as `read_image`."""
    with _opened(source) as image:
        check_pixels(image.size, max_pixels, _name(source))
        return header_of(image)


def header_of(image: Image.Image) -> ImageHeader:
    """The sizes of an image whose file is open."""
    width, height = _stored_size(image)
    quarter = orientation(image) in QUARTER_TURNS
    return ImageHeader((height, width) if quarter else (width, height), (width, height))


def check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    """Raise `FocusDetrError` for an image of (width, height) without pixels, or with more than allowed."""
    width, height = size
    if width < 1 or height < 1:
        raise FocusDetrError(f"{name}: the image has no pixels ({width}x{height}).")
    if width * height > max_pixels:
        raise TooLargeError(
            f"{name}: {width}x{height} is {_megapixels(width * height)} megapixels, above the limit of "
            f"{_megapixels(max_pixels)}, which a small file can claim to fill the memory with. Cut or shrink "
            f"it, or allow it where memory is enough: predict takes --max-megapixels "
            f"{-(-width * height // 1_000_000)}, Python read_image(..., max_pixels={width * height})."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image -> upright 8-bit RGB.

    Transparency is laid over white: what lies under transparent pixels is arbitrary (often black, or
    whatever a drawing program left there), and white is the page such pictures are made for and seen on.
    16-bit grayscale is divided by 257, so that its full range becomes 0..255 and equal values stay equal
    across images. Floating point: see `eight_bits`.
    """
    return turned(flat_rgb(image), orientation(image))


def eight_bits(values: np.ndarray, float_range: float | None = None) -> np.ndarray:
    """Pixels of any type -> uint8 0..255. Booleans are black and white; NaN is black, infinity the brightest.

    Args:
        float_range: what white is in a floating-point image, 1 or 255. None tells by the values: 255 where
            one is above 1.5, which leaves room for what resizing overshoots; with a warning where the image
            is so dark that it could be meant either way.

    Raises `FocusDetrError` for floating-point values that reach below zero: they have been normalised.
    """
    kind = values.dtype.kind
    if kind == "f":
        return _as_bytes(values, _white(values, float_range))
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return (values // 257).astype(np.uint8)
    if kind not in "iu":
        raise FocusDetrError(f"images: pixels of type {values.dtype} cannot be used; give uint8 0..255.")
    return np.clip(values, 0, 255).astype(np.uint8)


def _white(values: np.ndarray, float_range: float | None) -> float:
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    white = float_range or (1.0 if high <= _OVERSHOOT else 255.0)
    # Bicubic and Lanczos resizing undershoot black by a part of the range; normalised pixels by all of it.
    if low < -0.3 * min(white, max(high, 1.0)):
        raise FocusDetrError(
            f"images: floating-point pixels from {low:.3g} to {high:.3g} look normalised already; give them "
            "as 0..1 or 0..255, the image processor normalises them"
        )
    if float_range is None and _OVERSHOOT < high <= _DARK:
        warnings.warn(
            f"floating-point pixels up to {high:.3g} are taken as 0..255, that is almost black; say "
            "float_range=255, or float_range=1 if white is 1",
            stacklevel=4,
        )
    return white


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
    "longest_edge"]} keeps the shape, as nearly as edges of whole "multiple"s allow."""
    if "height" in size:
        return size["height"], size["width"]
    height, width = resized_size(height, width, size["shortest_edge"], size.get("longest_edge"))
    multiple = size.get("multiple", 1)
    return max(1, round(height / multiple)) * multiple, max(1, round(width / multiple)) * multiple


def check_size(size: int | dict[str, int]) -> dict[str, int]:
    """The size dictionary `size` stands for (an int is a shortest edge), or `FocusDetrError`."""
    as_dict = (
        {"shortest_edge": size}
        if isinstance(size, int)
        else {k: v for k, v in dict(size).items() if v is not None}
    )
    allowed = ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"})
    if set(as_dict) not in allowed and set(as_dict) - {"multiple"} not in allowed[1:]:
        raise FocusDetrError(
            f"size={size!r}: give {{'shortest_edge': ..., 'longest_edge': ...}} to keep the image's "
            "shape, to which 'multiple': ... may be added, or {'height': ..., 'width': ...} to stretch it."
        )
    for key, value in as_dict.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FocusDetrError(f"size[{key!r}]={value!r}: must be a whole number of pixels, 1 or more.")
    if as_dict.get("longest_edge", 2**31) < as_dict.get("shortest_edge", 0):
        raise FocusDetrError(f"size={size!r}: longest_edge must not be smaller than shortest_edge.")
    return as_dict


@contextmanager
def _opened(source: ImageSource) -> Iterator[Image.Image]:
    """The image of a file that is open while in use, its pixels not yet read."""
    with ExitStack() as files:
        try:
            if isinstance(source, str | os.PathLike) and (member := open_member(source)) is not None:
                stream: IO[bytes] = member
            elif isinstance(source, str | os.PathLike):
                # A pipe or a device may never end, and opening one may wait for ever.
                if not stat.S_ISREG(os.stat(source).st_mode) and not os.path.isdir(source):
                    raise FocusDetrError(f"{_name(source)}: is a pipe or a device, not an image file.")
                stream = files.enter_context(open(source, "rb"))
            else:
                stream = cast(IO[bytes], _Lent(source))
            image = _recognised(stream)
        except FocusDetrError:
            raise
        except FileNotFoundError as error:
            raise FocusDetrError(f"{_name(source)}: no such image file. Check the path.") from error
        except IsADirectoryError as error:
            raise FocusDetrError(f"{_name(source)}: is a folder, not an image file.") from error
        except Exception as error:  # a decoder choking on a broken header, a name that is none
            raise FocusDetrError(
                f"{_name(source)}: cannot be read as an image ({_reason(error)})."
            ) from error
        if image is None:
            raise FocusDetrError(f"{_name(source)}: {_unknown(stream)}")
        yield image


class _Lent:
    """A caller's stream, which stays open when the image read from it is closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        pass


def _recognised(stream: IO[bytes]) -> Image.Image | None:
    """`Image.open` without the limit of pixels, which Pillow holds for the whole process in a global."""
    stream.seek(0)
    prefix = stream.read(16)
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in Image.ID:
            if name in _PROGRAMS:
                continue
            factory, accepts = Image.OPEN[name]
            try:
                accepted = accepts is None or accepts(prefix)
                if accepted and not isinstance(accepted, str):  # text: the reason why not
                    stream.seek(0)
                    # Without a file name, Pillow does not map files into memory: one that is cut short
                    # while in use would end the process.
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # Pillow's way to say: not mine after all
    return None


def _unknown(stream: IO[bytes]) -> str:
    """What is wrong with content that no decoder takes."""
    stream.seek(0)
    start = stream.read(16)
    if not start:
        return "is empty. Copy it again from its source, or remove it."
    named = [kind for kind, known in _NOT_READ.items() if known.match(start)]
    if named:
        return f"is {named[0]}"
    return "not an image of a known format. Convert it to JPEG or PNG, or remove it."


def _upright_rgb(image: Image.Image) -> Image.Image:
    """As `to_rgb`, for an image that nobody else needs: it is let go before the RGB one is turned."""
    page, stored = flat_rgb(image), orientation(image)
    if page is not image:
        image.close()
    return turned(page, stored)


def flat_rgb(image: Image.Image) -> Image.Image:
    """As `to_rgb`, but as the pixels lie in the file."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # One divisor for all bands of the image.
        divisor = 0x101 if _largest(image) <= 0xFFFF else 0x1010101
        return _by_bands(image, lambda band: _gray(np.clip(_numbers(band) // divisor, 0, 255)))
    if image.mode == "F":
        white = 1.0 if _largest(image) <= _OVERSHOOT else 255.0
        return _by_bands(image, lambda band: _gray(_as_bytes(np.asarray(band), white)))
    if image.has_transparency_data:
        return _by_bands(image, _over_white)
    return image.convert("RGB")


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """``convert`` to RGB, some rows at a time: steps on the way need several times the image's memory."""
    page = Image.new("RGB", image.size)
    for box in _bands(image.size):
        page.paste(convert(image.crop(box)), box)
    return page


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    width, height = size
    rows = max(1, _BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _over_white(band: Image.Image) -> Image.Image:
    page = Image.new("RGBA", band.size, "white")
    page.alpha_composite(band.convert("RGBA"))
    return page.convert("RGB")


def _largest(image: Image.Image) -> float:
    """The largest finite pixel, 0 at least."""
    largest = 0.0
    for box in _bands(image.size):
        values = np.asarray(image.crop(box))
        largest = max(largest, float(values[np.isfinite(values)].max(initial=0)))
    return largest


def _numbers(band: Image.Image) -> np.ndarray:
    return np.asarray(band).astype(np.int64)


def _gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _as_bytes(values: np.ndarray, white: float) -> np.ndarray:
    """Floating-point values, ``white`` the brightest, -> 0..255 uint8."""
    finite = np.nan_to_num(values, nan=0.0, posinf=white, neginf=0.0)
    return np.clip(finite * (255.0 / white) + 0.5, 0, 255).astype(np.uint8)


def turned(image: Image.Image, stored: int) -> Image.Image:
    """An image as it lies in a file -> upright, by its EXIF orientation (1 to 8; others leave it)."""
    turn = _TURNS.get(stored)
    if turn is None:
        return image
    upright = image.transpose(turn)
    upright.info = {}  # or what reads it next would turn it once more
    return upright


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as the pixels lie in the file."""
    # Pillow gives a TIFF's size turned upright already, in some versions.
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(_WIDTH_TAG, image.width), tags.get(_HEIGHT_TAG, image.height)
    return (width, height) if {width, height} == set(image.size) else image.size


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image whose file is open, 1 where it says none."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF says nothing about orientation; the pixels are still good
        return 1


def _name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "image data"))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):  # of formats whose decoders look themselves
        return (
            f"more than {_megapixels(2 * (Image.MAX_IMAGE_PIXELS or 0))} megapixels, Pillow's own limit for "
            "this format; convert it to PNG or TIFF, or raise PIL.Image.MAX_IMAGE_PIXELS in Python"
        )
    return printable(str(error), longest=300)


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:.0f}" if pixels >= 10_000_000 else f"{pixels / 1e6:.2g}"

"""Pictures broken at random: reading gives RGB or refuses, in bounded time and memory, and never fails.

A round is made of its seed alone, as those of `helpers.fuzzing` are.
"""

from __future__ import annotations

import io
import random
import re
import struct
import traceback
import warnings
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import image_header, read_image
from focus_detr.images.reduced import read_for
from helpers.fuzzing import HangError, time_limit

MAX_PIXELS = 4_000_000
LARGEST_MEMORY = 200e6
"""Bytes: twice `MAX_PIXELS` as Pillow holds them, and what its decoders take."""

_PAGES: dict[str, object] = {"save_all": True}
_KINDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("RGB", "JPEG", {}), ("L", "JPEG", {"progressive": True}), ("CMYK", "JPEG", {}),
    ("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("LA", "PNG", {}), ("P", "PNG", {"transparency": 3}),
    ("1", "PNG", {}), ("I;16", "PNG", {}), ("RGB", "TIFF", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("L", "TIFF", {"compression": "jpeg"}), ("1", "TIFF", {"compression": "group4"}), ("F", "TIFF", {}),
    ("P", "GIF", {}), ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("RGB", "BMP", {}),
    ("RGB", "PPM", {}), ("RGB", "JPEG2000", {}), ("RGBA", "ICO", {}), ("RGB", "TGA", {}),
    ("RGB", "MPO", _PAGES), ("RGB", "TIFF", _PAGES), ("RGB", "PNG", _PAGES), ("RGB", "WEBP", _PAGES),
    ("P", "GIF", _PAGES), ("I;16", "PPM", {}), ("CMYK", "TIFF", {}), ("L", "PCX", {}), ("RGB", "SGI", {}),
)  # fmt: skip


def picture_round(seed: int) -> str | None:
    """Breaks a picture and reads it; the traceback of what should not come, or None."""
    content = broken_picture(seed)
    before = _reset_highest()
    try:
        with time_limit(), warnings.catch_warnings(action="ignore"):
            for read in (image_header, read_image, _read_small):
                try:
                    given = read(io.BytesIO(content), max_pixels=MAX_PIXELS)
                except FocusDetrError as error:
                    assert len(str(error)) < 1000 and str(error).isprintable(), repr(str(error))
                else:
                    assert given.size[0] * given.size[1] <= MAX_PIXELS, given.size
                    assert not isinstance(given, Image.Image) or given.mode == "RGB"
            used = _highest() - before
            assert used < LARGEST_MEMORY, f"{used / 1e6:.0f} MB"
    except (Exception, HangError):
        return "\n".join(line[:200] for line in traceback.format_exc().splitlines())
    return None


def broken_picture(seed: int) -> bytes:
    """A picture's file of some kind, broken in some way."""
    chance = random.Random(seed)
    return _broken(_picture(chance.randrange(len(_KINDS))), chance)


def _read_small(source: io.BytesIO, max_pixels: int) -> Image.Image:
    """As very large JPEG files are read, whatever the size."""
    with mock.patch("focus_detr.images.reduced.LARGE_PIXELS", 0):
        return read_for(source, lambda height, width: (2, 2), max_pixels).image


@cache
def _picture(kind: int) -> bytes:
    mode, suffix, options = _KINDS[kind]
    values = np.random.default_rng(kind).integers(0, 256, (24, 33, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 200)
    else:
        image = Image.fromarray(values).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 1 + kind % 8
    stream = io.BytesIO()
    if "save_all" in options:
        # Made afresh: saving leaves traces in an image that other formats stumble over.
        options = {**options, "append_images": [Image.new("RGB", (33, 24), "red")]}
    image.save(stream, suffix, **options, **({"exif": exif} if suffix in ("JPEG", "PNG", "TIFF") else {}))
    return stream.getvalue()


def _broken(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        # Headers are where sizes, offsets and kinds stand.
        end = len(data) if chance.random() < 0.4 else min(len(data), 200)
        place = chance.randrange(max(1, end))
        action = chance.randrange(7)
        if action == 0 and data:
            data[place % len(data)] = chance.randrange(256)
        elif action == 1 and data:
            data[place % len(data)] ^= 1 << chance.randrange(8)
        elif action == 2:
            data = data[:place]
        elif action == 3:
            del data[place : place + chance.choice((1, 4, 40))]
        elif action == 4:
            data[place:place] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4, 40))))
        elif action == 5 and len(data) > place + 4:
            size = chance.choice((0, 1, 13_300, 2**16 - 1, 2**31 - 1, 2**32 - 1))
            struct.pack_into(chance.choice(("<I", ">I")), data, place, size)
        elif action == 6:
            data[place:place] = data[place : place + 60] * chance.choice((1, 30))
    return bytes(data)


def _reset_highest() -> int:
    """Bytes of memory in use, from which `_highest` counts anew; 0 where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 2**62
    return _highest()


def _highest() -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0

"""What a picture looks like, in 64 bits and in a thumbnail: the same for copies of other size or quality."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 32
THUMBNAIL = 16
_LOW = 8  # frequencies a side that make the hash


def perceptual_hash(grey: Image.Image) -> np.uint64:
    """64 bits, few of which change with size, compression or brightness: the signs, about their median, of
    the lowest frequencies of a picture of 32 x 32 grey pixels (pHash, Zauner 2010, section 3.2.1)."""
    from scipy.fft import dctn

    pixels = np.asarray(_sized(grey, SIDE), dtype=np.float64)
    low = dctn(pixels, norm="ortho")[:_LOW, :_LOW].reshape(-1)
    # The first one is the brightness, which is no structure and would move the median.
    bits = low > np.median(low[1:])
    bits[0] = False
    return np.packbits(bits).view(">u8")[0].astype(np.uint64)


def thumbnail(grey: Image.Image) -> np.ndarray:
    """(256,) uint8: 16 x 16 grey pixels."""
    return np.asarray(_sized(grey, THUMBNAIL), dtype=np.uint8).reshape(-1)


def _sized(grey: Image.Image, side: int) -> Image.Image:
    return grey if grey.size == (side, side) else grey.resize((side, side), Image.Resampling.BOX)

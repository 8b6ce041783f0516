"""Every picture of a data set looked at once: whether all of it can be read, and what it looks like.

Of a picture 8 bytes of hash and a thumbnail of 256 stay: 100,000 of them take 30 MB.
"""

# Shapes: P pictures, S = 16 pixels of a thumbnail's side.

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from focus_detr.data.doctor.hashing import THUMBNAIL, perceptual_hash, thumbnail
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import read_image

# Decoders of Pillow let other threads compute.
_THREADS = 4
_PATIENCE = 2  # seconds before a bar says what is waited for


@dataclass
class Survey:
    """What was seen of the pictures of ``paths``.

    Attributes:
        hashes: (P,) uint64, see `perceptual_hash`; 0 where a picture cannot be read.
        thumbnails: (P,S*S) uint8, grey.
        faults: why a picture cannot be read, by its position.
    """

    paths: list[Path] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    thumbnails: np.ndarray = field(default_factory=lambda: np.zeros((0, THUMBNAIL**2), dtype=np.uint8))
    faults: dict[int, str] = field(default_factory=dict)

    @property
    def unreadable(self) -> dict[Path, str]:
        return {self.paths[position]: reason for position, reason in self.faults.items()}


def survey(paths: Iterable[Path]) -> Survey:
    """Reads all pixels of each picture, once for each path."""
    from tqdm import tqdm

    own = list(dict.fromkeys(paths))
    seen = Survey(own, np.zeros(len(own), np.uint64), np.zeros((len(own), THUMBNAIL**2), np.uint8))

    def look(path: Path) -> tuple[np.uint64, np.ndarray] | str:
        try:
            image = read_image(path)
        except FocusDetrError as error:
            return str(error).removeprefix(f"{path}: ")
        grey = image.convert("L")
        # The hash is of 32 pixels a side: shrunk once for both.
        small = grey.resize((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.BOX)
        return perceptual_hash(small), thumbnail(small)

    with ThreadPoolExecutor(_THREADS) as pool:
        quiet = not sys.stderr.isatty()
        looking = tqdm(pool.map(look, own), "looking", len(own), unit="image", delay=_PATIENCE, disable=quiet)
        for position, found in enumerate(looking):
            if isinstance(found, str):
                seen.faults[position] = found
            else:
                seen.hashes[position], seen.thumbnails[position] = found
    return seen

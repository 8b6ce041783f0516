"""The headers of many pictures, read side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import ImageHeader, image_header, read_image

# Parsing a header takes Python's lock and a fraction of a millisecond; disks and networks let others in.
_THREADS = 8
_PATIENCE = 2  # seconds before a bar says what is waited for


def read_headers(paths: Sequence[Path], decode: bool = False) -> list[ImageHeader | FocusDetrError]:
    """The header of each picture, or what is wrong with it.

    Args:
        decode: read all pixels, too, which finds files that are cut short.
    """
    if not paths:
        return []
    from tqdm import tqdm

    def look(path: Path) -> ImageHeader | FocusDetrError:
        try:
            if decode:
                read_image(path)
            return image_header(path)
        except FocusDetrError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        looking = pool.map(look, paths)
        quiet = not sys.stderr.isatty()
        return list(tqdm(looking, "reading sizes", len(paths), unit="image", delay=_PATIENCE, disable=quiet))

"""Sources: files, folders, globs, URLs and images in memory, as one stream of images loaded when needed."""

from __future__ import annotations

import glob
import io
import itertools
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from focus_detr.data.formats.searching import files_below, is_image_file
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import read_image, to_rgb
from focus_detr.inference.results import BadImage

Source = str | os.PathLike[str] | Image.Image | np.ndarray
Sources = Source | Iterable[Source]

_MEGABYTE = 2**20


@dataclass(frozen=True)
class NamedImage:
    """An image not read yet. `load()` gives upright RGB or a `BadImage`, and never raises."""

    name: str
    read: Callable[[], Image.Image]

    def load(self) -> Image.Image | BadImage:
        try:
            return self.read()
        except FocusDetrError as error:
            return BadImage(self.name, str(error).removeprefix(f"{self.name}: "))
        except Exception as error:  # one bad image must not end a run of thousands
            return BadImage(self.name, f"{type(error).__name__}: {error}")


class _Nothing(BadImage):
    """A source behind which there is nothing: a missing file, an empty folder, a pattern without match."""


def expand_sources(
    sources: Sources, *, timeout: float = 10.0, max_megabytes: float = 100.0
) -> Iterator[NamedImage | BadImage]:
    """All images that `sources` stand for, in order; folders are searched in depth, and sorted.

    Args:
        sources: one or many of: image file, folder, glob pattern (`**` goes into subfolders), http, https or
            file URL, PIL image, uint8 numpy array (H,W), (H,W,1), (H,W,3) RGB or (H,W,4) RGBA. Generators are
            consumed as needed, so that an endless one works.
        timeout: seconds that a download may take.
        max_megabytes: largest download.

    A source with nothing behind it gives a `BadImage`. Raises `FocusDetrError` at once if there
    is nothing else.
    """
    items = _expand(sources, timeout, max_megabytes)
    first: list[NamedImage | BadImage] = []
    for item in items:
        first.append(item)
        if not isinstance(item, _Nothing):
            return itertools.chain(first, items)
    if not first:
        raise FocusDetrError("sources: the list is empty; give an image file, folder, pattern, URL or image")
    reasons = "; ".join(f"{item.path}: {item.reason}" for item in first[:5] if isinstance(item, BadImage))
    more = f"; and {len(first) - 5} more" if len(first) > 5 else ""
    raise FocusDetrError(f"no image found: {reasons}{more}")


def _expand(sources: Sources, timeout: float, max_megabytes: float) -> Iterator[NamedImage | BadImage]:
    entries: Iterable[Any]
    if isinstance(sources, str | os.PathLike | Image.Image | np.ndarray):
        entries = [sources]
    elif isinstance(sources, Iterable):
        entries = sources
    else:
        raise FocusDetrError(f"sources: cannot use {type(sources).__name__}; {_ACCEPTED}")
    for position, entry in enumerate(entries):
        if isinstance(entry, str | os.PathLike):
            yield from _expand_name(os.fspath(entry), timeout, max_megabytes)
        elif isinstance(entry, Image.Image):
            name = getattr(entry, "filename", "") or f"image[{position}]"
            yield NamedImage(str(name), partial(to_rgb, entry))
        elif isinstance(entry, np.ndarray):
            yield NamedImage(f"image[{position}]", partial(_from_array, entry))
        else:
            raise FocusDetrError(f"sources[{position}]: cannot use {type(entry).__name__}; {_ACCEPTED}")


_ACCEPTED = "give file names, folders, patterns, URLs, PIL images or numpy arrays (H,W,3)"


def _expand_name(name: str, timeout: float, max_megabytes: float) -> Iterator[NamedImage | BadImage]:
    scheme = urlsplit(name).scheme.lower() if "://" in name else ""
    if scheme in ("http", "https"):
        yield NamedImage(name, lambda: read_image(io.BytesIO(_download(name, timeout, max_megabytes))))
        return
    if scheme == "file":
        name = urllib.request.url2pathname(urlsplit(name).path)
    elif scheme:
        yield _Nothing(name, f"{scheme} URLs are not supported; use http, https or file")
        return
    path = Path(name).expanduser()
    if path.is_dir():
        try:
            found, nothing = iter(files_below(path, is_image_file)), "the folder holds no image file"
        except FocusDetrError as error:
            found, nothing = iter(()), str(error).removeprefix(f"{path}: ")
    elif path.exists():
        found = iter([path])
        nothing = ""
    elif glob.has_magic(name):
        matches = (Path(match) for match in sorted(glob.iglob(str(path), recursive=True)))
        found = (match for match in matches if match.is_file() and is_image_file(match))
        nothing = "no image file matches the pattern"
    else:
        found = iter(())
        nothing = "no such file or folder"
    empty = True
    for file in found:
        empty = False
        yield NamedImage(str(file), partial(read_image, file))
    if empty:
        yield _Nothing(name, nothing)


def _download(url: str, timeout: float, max_megabytes: float) -> bytes:
    limit = int(max_megabytes * _MEGABYTE)
    deadline = time.monotonic() + timeout
    too_large = FocusDetrError(f"{url}: larger than the limit of {max_megabytes:g} MB")
    request = urllib.request.Request(url, headers={"User-Agent": "focus-detr", "Accept": "image/*"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            if int(response.headers.get("Content-Length") or 0) > limit:
                raise too_large
            data = bytearray()
            while chunk := response.read1(_MEGABYTE):
                data += chunk
                if len(data) > limit:
                    raise too_large
                # The socket's own timeout restarts with every byte that drips in.
                if time.monotonic() > deadline:
                    raise FocusDetrError(f"{url}: not downloaded within {timeout:g} s")
            return bytes(data)
    except urllib.error.HTTPError as error:
        raise FocusDetrError(f"{url}: the server answered {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise FocusDetrError(f"{url}: no answer within {timeout:g} s") from error
    except OSError as error:
        raise FocusDetrError(f"{url}: cannot be downloaded ({getattr(error, 'reason', error)})") from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (
        array.dtype != np.uint8
        or 0 in array.shape
        or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
    ):
        raise FocusDetrError(
            f"array of shape {array.shape} and type {array.dtype}: needs uint8 of shape (H,W), (H,W,3) RGB "
            "or (H,W,4) RGBA"
        )
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))

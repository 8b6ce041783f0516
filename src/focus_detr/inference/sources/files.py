"""Sources: files, folders, globs, URLs, videos and images in memory, as one stream of images loaded when
needed."""

from __future__ import annotations

import glob
import os
import urllib.request
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from focus_detr.data.formats.searching import files_below
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import to_rgb
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.archives import is_archive
from focus_detr.inference.sources.containers import images_in, is_taken, single_image
from focus_detr.inference.sources.download import without_password
from focus_detr.inference.sources.live import STREAM_SCHEMES, camera, is_camera, live_frames, network_stream
from focus_detr.inference.sources.named import NamedImage, Nothing, Series
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.inference.sources.web import images_at
from focus_detr.printable import printable

Source = str | os.PathLike[str] | Image.Image | np.ndarray
Sources = Source | Iterable[Source]


def expand_sources(sources: Sources, **options: Any) -> Generator[NamedImage | BadImage]:
    """All images that `sources` stand for, in order; folders are searched in depth, and sorted.

    Args:
        sources: one or many of: file of images (video, archive, pages and all), folder, glob pattern (`**`
            goes into subfolders), http, https or file URL, PIL image, uint8 numpy array (H,W), (H,W,1),
            (H,W,3) RGB or (H,W,4) RGBA. Generators are consumed as needed, so that an endless one works. `~`
            stands for the home folder.
        options: see `SourceOptions`.

    A source with nothing behind it gives a `BadImage`. Raises `FocusDetrError` at once if there
    is nothing else. Frames of videos hold their pixels: take them one by one, and not in a list.
    """
    return images_of(source_entries(sources, SourceOptions.of(options)))


def images_of(entries: Iterable[NamedImage | BadImage | Series]) -> Generator[NamedImage | BadImage]:
    """All images of `entries`, in order; raises as `expand_sources`."""
    items = _flat(entries)
    first: list[NamedImage | BadImage] = []
    for item in items:
        first.append(item)
        if not isinstance(item, Nothing):
            return _begun(first, items)
    if not first:
        raise FocusDetrError("sources: the list is empty; give an image file, folder, pattern, URL or image")
    reasons = "; ".join(f"{item.path}: {item.reason}" for item in first[:5] if isinstance(item, BadImage))
    more = f"; and {len(first) - 5} more" if len(first) > 5 else ""
    raise FocusDetrError(f"no image found: {reasons}{more}")


def expected_images(entries: Iterable[NamedImage | BadImage | Series]) -> int | None:
    """About how many images there will be; None where nobody knows."""
    counts = [entry.expected() if isinstance(entry, Series) else 1 for entry in entries]
    return None if None in counts else sum(count for count in counts if count is not None)


def source_entries(sources: Sources, options: SourceOptions) -> Iterator[NamedImage | BadImage | Series]:
    """What `sources` stand for, where a video and the like is one entry; nothing of it is opened yet."""
    entries: Iterable[Any]
    if isinstance(sources, str | os.PathLike | Image.Image | np.ndarray):
        entries = [sources]
    elif isinstance(sources, Iterable) and not isinstance(sources, bytes | Mapping):
        entries = sources
    else:
        raise FocusDetrError(f"sources: cannot use {type(sources).__name__}; {_ACCEPTED}")
    for position, entry in enumerate(entries):
        if isinstance(entry, str | os.PathLike):
            yield from _expand_name(os.fsdecode(entry), options)
        elif isinstance(entry, Image.Image):
            name = getattr(entry, "filename", "") or f"image[{position}]"
            yield NamedImage(os.fsdecode(name), partial(_from_image, entry))
        elif isinstance(entry, np.ndarray):
            yield NamedImage(f"image[{position}]", partial(_from_array, entry))
        else:
            raise FocusDetrError(f"sources[{position}]: cannot use {type(entry).__name__}; {_ACCEPTED}")


def _begun(
    first: list[NamedImage | BadImage], rest: Iterator[NamedImage | BadImage]
) -> Generator[NamedImage | BadImage]:
    """A generator, which passes its end on: a camera is let go with whoever looked at it."""
    yield from first
    yield from rest


def _flat(entries: Iterable[NamedImage | BadImage | Series]) -> Iterator[NamedImage | BadImage]:
    for entry in entries:
        if isinstance(entry, Series):
            try:
                yield from entry.images()
            except Exception as error:  # one bad file must not end a run of thousands
                said = str(error) if isinstance(error, FocusDetrError) else f"{type(error).__name__}: {error}"
                yield BadImage(entry.name, said.removeprefix(f"{entry.name}: "))
        else:
            yield entry


_ACCEPTED = "give file names, folders, patterns, URLs, PIL images or numpy arrays (H,W,3)"


def _expand_name(name: str, options: SourceOptions) -> Iterator[NamedImage | BadImage | Series]:
    scheme = name.partition("://")[0].lower() if "://" in name else ""
    if scheme in ("http", "https"):
        yield images_at(name, options)
        return
    if is_camera(name) or scheme in STREAM_SCHEMES:
        opener = camera(name, options) if is_camera(name) else network_stream(name, options)
        shown = without_password(name)
        yield Series(shown, lambda: live_frames(shown, opener, options), live=True)
        return
    local = name
    if name[:5].lower() == "data:" and not os.path.lexists(name):
        yield Nothing(printable(name, 60), "what an address holds itself is not read; write it to a file")
        return
    if scheme == "file":
        try:
            parts = urlsplit(name)
            local = urllib.request.url2pathname(parts.path)
        except (ValueError, OSError) as error:
            yield Nothing(name, f"not a URL that can be read ({error})")
            return
        if parts.netloc.lower() not in ("", "localhost"):
            yield Nothing(name, f"a file of another machine, {parts.netloc}; file:///... is one of this")
            return
    elif scheme:
        yield Nothing(
            name, f"{scheme} URLs are not supported; use http, https, file, rtsp or another of streams"
        )
        return
    # os.path takes any text for a name, where pathlib raises for those that no file can have.
    place = os.path.expanduser(local)
    if os.path.isdir(place):
        try:
            found, nothing = iter(files_below(Path(place), is_taken)), "the folder holds no image file"
        except FocusDetrError as error:
            found, nothing = iter(()), str(error).removeprefix(f"{place}: ")
    elif os.path.exists(place) and not os.path.isfile(place):
        yield single_image(place, lambda: place, options)  # a pipe or a device, which nothing else may open
        return
    elif os.path.exists(place):
        found = iter([Path(place)])
        nothing = ""
    elif glob.has_magic(local):
        matches = (Path(match) for match in sorted(glob.iglob(place, recursive=True)))
        found = (
            match for match in matches if match.is_file() and (is_taken(match) or is_archive(match.name))
        )
        nothing = "no image file matches the pattern"
    else:
        found = iter(())
        nothing = "no such file or folder"
    empty = True
    for file in found:
        empty = False
        yield images_in(str(file), partial(os.fspath, file), options)
    if empty:
        yield Nothing(name, nothing)


def _from_image(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise FocusDetrError(f"an image of {image.width}x{image.height} has no pixels")
    return to_rgb(image)


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

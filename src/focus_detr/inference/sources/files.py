"""Sources: files, folders, globs, URLs and images in memory, as one stream of images loaded when needed."""

from __future__ import annotations

import glob
import io
import itertools
import os
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from focus_detr.data.formats.searching import files_below, is_image_file
from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.images.reading import MAX_PIXELS, ImageSource, read_image, to_rgb
from focus_detr.images.reduced import SizedImage, SizeRule, read_for
from focus_detr.inference.results import BadImage

Source = str | os.PathLike[str] | Image.Image | np.ndarray
Sources = Source | Iterable[Source]


@dataclass(frozen=True)
class NamedImage:
    """An image not read yet. Loading it gives upright RGB or a `BadImage`, and never raises.

    `read_small`, where there is a shorter way to an image of the size that a rule gives, takes that way.
    """

    name: str
    read: Callable[[], Image.Image]
    read_small: Callable[[SizeRule], SizedImage] | None = None

    def load(self) -> Image.Image | BadImage:
        """The whole image."""
        loaded = self._load(self.read)
        return loaded if isinstance(loaded, BadImage) else loaded.image

    def load_for(self, rule: SizeRule | None) -> SizedImage | BadImage:
        """The image as good as whole for use at the size that ``rule`` gives (see `read_for`)."""
        read, small = self.read, self.read_small
        return self._load(read if rule is None or small is None else lambda: small(rule))

    def _load(self, read: Callable[[], Image.Image | SizedImage]) -> SizedImage | BadImage:
        try:
            found = read()
            return found if isinstance(found, SizedImage) else SizedImage(found, found.size)
        except FocusDetrError as error:
            return BadImage(self.name, str(error).removeprefix(f"{self.name}: "))
        except Exception as error:  # one bad image must not end a run of thousands
            return BadImage(self.name, f"{type(error).__name__}: {error}")


class _Nothing(BadImage):
    """A source behind which there is nothing: a missing file, an empty folder, a pattern without match."""


@dataclass(frozen=True)
class Limits:
    """What one image may cost.

    Attributes:
        timeout: seconds that a download may take, redirects and all.
        max_megabytes: largest download.
        max_pixels: largest image; more is refused before it is decoded.
        private_redirects: whether a server may redirect to an address inside one's own networks.
    """

    timeout: float = 10.0
    max_megabytes: float = 100.0
    max_pixels: int = MAX_PIXELS
    private_redirects: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any], others: Iterable[str] = ()) -> Limits:
        """Raises `FocusDetrError` for an option that is none, and may be a misspelt one of ``others``."""
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                known = [*others, *names]
                hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
                raise FocusDetrError(f"unknown option {name!r}{hint}")
        return cls(**options)

    def __post_init__(self) -> None:
        for name in ("timeout", "max_megabytes", "max_pixels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise FocusDetrError(f"{name}={value!r}: must be a number above 0")


def expand_sources(sources: Sources, **limits: Any) -> Iterator[NamedImage | BadImage]:
    """All images that `sources` stand for, in order; folders are searched in depth, and sorted.

    Args:
        sources: one or many of: image file, folder, glob pattern (`**` goes into subfolders), http, https or
            file URL, PIL image, uint8 numpy array (H,W), (H,W,1), (H,W,3) RGB or (H,W,4) RGBA. Generators are
            consumed as needed, so that an endless one works. `~` stands for the home folder.
        limits: `timeout`, `max_megabytes`, `max_pixels`, `private_redirects`; see `Limits`.

    A source with nothing behind it gives a `BadImage`. Raises `FocusDetrError` at once if there
    is nothing else.
    """
    items = _expand(sources, Limits.of(limits))
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


def _expand(sources: Sources, limits: Limits) -> Iterator[NamedImage | BadImage]:
    entries: Iterable[Any]
    if isinstance(sources, str | os.PathLike | Image.Image | np.ndarray):
        entries = [sources]
    elif isinstance(sources, Iterable) and not isinstance(sources, bytes | Mapping):
        entries = sources
    else:
        raise FocusDetrError(f"sources: cannot use {type(sources).__name__}; {_ACCEPTED}")
    for position, entry in enumerate(entries):
        if isinstance(entry, str | os.PathLike):
            yield from _expand_name(os.fsdecode(entry), limits)
        elif isinstance(entry, Image.Image):
            name = getattr(entry, "filename", "") or f"image[{position}]"
            yield NamedImage(os.fsdecode(name), partial(_from_image, entry))
        elif isinstance(entry, np.ndarray):
            yield NamedImage(f"image[{position}]", partial(_from_array, entry))
        else:
            raise FocusDetrError(f"sources[{position}]: cannot use {type(entry).__name__}; {_ACCEPTED}")


_ACCEPTED = "give file names, folders, patterns, URLs, PIL images or numpy arrays (H,W,3)"


def _expand_name(name: str, limits: Limits) -> Iterator[NamedImage | BadImage]:
    scheme = name.partition("://")[0].lower() if "://" in name else ""
    if scheme in ("http", "https"):
        yield _of_stream(name, partial(_download, name, limits), limits)
        return
    local = name
    if scheme == "file":
        try:
            local = urllib.request.url2pathname(urlsplit(name).path)
        except (ValueError, OSError) as error:
            yield _Nothing(name, f"not a URL that can be read ({error})")
            return
    elif scheme:
        yield _Nothing(name, f"{scheme} URLs are not supported; use http, https or file")
        return
    # os.path takes any text for a name, where pathlib raises for those that no file can have.
    place = os.path.expanduser(local)
    if os.path.isdir(place):
        try:
            found, nothing = iter(files_below(Path(place), is_image_file)), "the folder holds no image file"
        except FocusDetrError as error:
            found, nothing = iter(()), str(error).removeprefix(f"{place}: ")
    elif os.path.exists(place):
        found = iter([Path(place)])
        nothing = ""
    elif glob.has_magic(local):
        matches = (Path(match) for match in sorted(glob.iglob(place, recursive=True)))
        found = (match for match in matches if match.is_file() and is_image_file(match))
        nothing = "no image file matches the pattern"
    else:
        found = iter(())
        nothing = "no such file or folder"
    empty = True
    for file in found:
        empty = False
        yield _of_stream(str(file), partial(os.fspath, file), limits)
    if empty:
        yield _Nothing(name, nothing)


def _of_stream(name: str, source: Callable[[], ImageSource], limits: Limits) -> NamedImage:
    """The image of a file, or of what is in its place once ``source`` has fetched it."""
    return NamedImage(
        name,
        lambda: read_image(source(), limits.max_pixels),
        lambda rule: read_for(source(), rule, limits.max_pixels),
    )


def _download(url: str, limits: Limits) -> IO[bytes]:
    from focus_detr.inference.sources.download import download

    content = download(
        url,
        timeout=limits.timeout,
        max_megabytes=limits.max_megabytes,
        private_redirects=limits.private_redirects,
    )
    return io.BytesIO(content)


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

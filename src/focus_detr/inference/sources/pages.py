"""Files that hold many pictures: the pages of a TIFF, the frames of an animation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import PurePath

from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import ImageSource, check_pixels, decoding, to_rgb
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.named import NamedImage
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.structures.frame import Frame

_PAGED = frozenset((".tif", ".tiff"))
_ANIMATED = frozenset((".gif", ".webp", ".avif"))
_KIND_TAG, _REDUCED, _MASK = 254, 1, 4  # of TIFF: smaller versions of a page, as for previews, and masks
_SHORTEST_S = 0.01
"""Of a frame of an animation; browsers show those that say nothing longer than that."""


def may_hold_many(name: str) -> bool:
    """Whether a file of this name may have pages or frames; whether it has, is said when it is opened."""
    return PurePath(name).suffix.lower() in _PAGED | _ANIMATED


def page_images(
    single: NamedImage, kind: str, source: Callable[[], ImageSource], options: SourceOptions
) -> Iterator[NamedImage | BadImage]:
    """The pages of a TIFF by number from 1, the frames looked at of an animation, whichever the ending of
    ``kind`` says; or ``single``, the file's only picture."""
    if PurePath(kind).suffix.lower() in _ANIMATED:
        return _frames(single, source, options)
    return _pages(single, source, options)


def _pages(
    single: NamedImage, source: Callable[[], ImageSource], options: SourceOptions
) -> Iterator[NamedImage | BadImage]:
    stack = _Stack(source, options)
    pages, reason = stack.pages()
    if len(pages) + (reason is not None) < 2:
        yield single  # which says what is wrong with it, too
        return
    for page in pages:
        name = f"{single.name}#page={page + 1}"
        yield NamedImage(name, partial(stack.read, page, name))
    if reason is not None:
        yield BadImage(f"{single.name}#page={pages[-1] + 2}", reason)


class _Stack:
    """A TIFF that stays open while its pages are in use: each is found from the one before."""

    def __init__(self, source: Callable[[], ImageSource], options: SourceOptions) -> None:
        self._source, self._options = source, options
        self._files = ExitStack()  # closed with this, when the last page is done with
        self._image: Image.Image | None = None
        self._lock = threading.Lock()

    def pages(self) -> tuple[list[int], str | None]:
        """The pages that are pictures of their own; and why there are no more, where something is wrong."""
        found: list[int] = []
        try:
            # Counting them first would lose all of them where one is damaged.
            for page in count():
                try:
                    self._opened().seek(page)
                except EOFError:
                    break
                if not getattr(self._image, "tag_v2", {}).get(_KIND_TAG, 0) & (_REDUCED | _MASK):
                    found.append(page)
        except Exception as error:  # decoders raise many kinds
            return found, f"the file is damaged here ({error})"
        return found, None

    def read(self, page: int, name: str) -> Image.Image:
        with self._lock:
            try:
                image = self._opened()
                image.seek(page)
                check_pixels(image.size, self._options.max_pixels, name)
                return _copy(image)
            except FocusDetrError:
                raise
            except Exception as error:  # decoders raise many kinds
                raise FocusDetrError(f"the page is damaged or cut short ({error})") from error

    def _opened(self) -> Image.Image:
        if self._image is None:
            # Pages are looked at one by one: a first one that is too large spoils no other.
            self._image = self._files.enter_context(decoding(self._source(), max_pixels=2**63))
        return self._image


def _frames(
    single: NamedImage, source: Callable[[], ImageSource], options: SourceOptions
) -> Iterator[NamedImage | BadImage]:
    chosen, seconds, index = options.chooser(), 0.0, 0
    try:
        with decoding(source(), options.max_pixels) as image:
            if not getattr(image, "is_animated", False):
                yield single
                return
            while True:
                try:
                    image.seek(index)
                except EOFError:
                    return
                image.load()
                length = max(_SHORTEST_S, float(image.info.get("duration") or 0) / 1000)
                if index == 0:
                    rate = options.rate_of(1 / length)
                if chosen(index, seconds):
                    frame = Frame(single.name, index, round(seconds, 6), rate)
                    yield NamedImage(frame.name, partial(_same, _copy(image)), frame=frame)
                seconds, index = seconds + length, index + 1
    except FocusDetrError as error:
        if index == 0:
            yield single
        else:
            reason = str(error).removeprefix(f"{single.name}: ")
            yield BadImage(f"{single.name}#frame={index}", reason)


def _copy(image: Image.Image) -> Image.Image:
    """The picture an open file stands at, upright RGB, which stays when the file moves on."""
    image.load()
    page = to_rgb(image)
    return page.copy() if page is image else page


def _same(image: Image.Image) -> Image.Image:
    return image

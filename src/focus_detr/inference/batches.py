"""Images, loaded when they are needed, in batches for the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from PIL import Image

from focus_detr.images.reduced import SizedImage, SizeRule
from focus_detr.inference.ahead import done_ahead
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.named import NamedImage

Known = Callable[[str], Detections | BadImage | None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """An image that could be read, and the source's item that it is of; `small` is what the model sees of it,
    where that is made already."""

    item: NamedImage
    image: SizedImage
    small: Image.Image | None = None


@dataclass(frozen=True)
class Earlier:
    """An image that need not be looked at, for its result is there."""

    item: NamedImage | BadImage
    result: Detections | BadImage


def loaded_batches(
    items: Iterable[NamedImage | BadImage],
    size: int,
    rule: SizeRule | None,
    known: Known | None = None,
    *,
    resized: Callable[[Image.Image], Image.Image] | None = None,
    ahead: int = 0,
) -> Iterator[list[Loaded | BadImage | Earlier]]:
    """Loads images, good for use at the sizes that `rule` gives, and groups them by `size`; bad ones, and
    those whose result is `known` by name, keep their place between the others.

    Args:
        resized: makes of an image what the model sees.
        ahead: images that are loaded while whoever asked for a group works on it; fewer of large ones.
    """
    group: list[Loaded | BadImage | Earlier] = []
    ready = 0

    def load(item: NamedImage | BadImage) -> Loaded | BadImage:
        image = item if isinstance(item, BadImage) else item.load_for(rule)
        if isinstance(image, BadImage):
            return image
        assert isinstance(item, NamedImage)
        return Loaded(item, image, None if resized is None else resized(image.image))

    with closing(_in_turn(items, load, known, ahead)) as turns:
        for item, each in turns:
            group.append(each)
            ready += isinstance(each, Loaded)
            if isinstance(each, BadImage):
                logger.warning("%s: passed over: %s", each.path, each.reason)
            live = isinstance(item, NamedImage) and item.frame is not None and item.frame.live
            if ready in (0, size) or live:  # whoever watches now waits for no others
                yield group
                group, ready = [], 0
    if group:
        yield group


def complete_batches(results: Sequence[Detections | BadImage], size: int) -> int:
    """How many of the first results are of batches, as `loaded_batches` makes them, that are complete."""
    complete = ready = 0
    for count, result in enumerate(results, start=1):
        ready += isinstance(result, Detections)
        if ready in (0, size):
            complete, ready = count, 0
    return complete


def _in_turn(
    items: Iterable[NamedImage | BadImage],
    load: Callable[[NamedImage | BadImage], Loaded | BadImage],
    known: Known | None,
    ahead: int,
) -> Generator[tuple[NamedImage | BadImage, Loaded | BadImage | Earlier]]:
    """Items and what became of them, in order."""

    def started(item: NamedImage | BadImage) -> Callable[[], Loaded | BadImage | Earlier] | None:
        result = None if known is None else known(item.path if isinstance(item, BadImage) else item.name)
        return None if result is None else (lambda: Earlier(item, result))

    def weight(each: Loaded | BadImage | Earlier) -> int:
        return each.image.image.width * each.image.image.height if isinstance(each, Loaded) else 0

    def at_once(item: NamedImage | BadImage) -> bool:
        return isinstance(item, NamedImage) and item.frame is not None and item.frame.live

    return done_ahead(items, load, count=ahead, known=started, weight=weight, at_once=at_once)

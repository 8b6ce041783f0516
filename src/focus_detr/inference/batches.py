"""Images, loaded when they are needed, in batches for the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from focus_detr.images.reduced import SizedImage, SizeRule
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.named import NamedImage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """An image that could be read, and the source's item that it is of."""

    item: NamedImage
    image: SizedImage


@dataclass(frozen=True)
class Earlier:
    """An image that need not be looked at, for its result is there."""

    item: NamedImage | BadImage
    result: Detections | BadImage


def loaded_batches(
    items: Iterable[NamedImage | BadImage],
    size: int,
    rule: SizeRule | None,
    known: Callable[[str], Detections | BadImage | None] | None = None,
) -> Iterator[list[Loaded | BadImage | Earlier]]:
    """Loads images, good for use at the sizes that `rule` gives, and groups them by `size`; bad ones, and
    those whose result is `known` by name, keep their place between the others."""
    group: list[Loaded | BadImage | Earlier] = []
    ready = 0
    for item in items:
        result = None if known is None else known(item.path if isinstance(item, BadImage) else item.name)
        if result is not None:
            group.append(Earlier(item, result))
        else:
            group.append(loaded := _load(item, rule))
            ready += isinstance(loaded, Loaded)
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


def _load(item: NamedImage | BadImage, rule: SizeRule | None) -> Loaded | BadImage:
    image = item if isinstance(item, BadImage) else item.load_for(rule)
    if isinstance(image, BadImage):
        logger.warning("%s: passed over: %s", image.path, image.reason)
        return image
    assert isinstance(item, NamedImage)
    return Loaded(item, image)

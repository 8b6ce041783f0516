"""Images, loaded when they are needed, in batches for the model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from focus_detr.images.reduced import SizedImage, SizeRule
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.named import NamedImage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """An image that could be read, and the source's item that it is of."""

    item: NamedImage
    image: SizedImage


def loaded_batches(
    items: Iterable[NamedImage | BadImage], size: int, rule: SizeRule | None
) -> Iterator[list[Loaded | BadImage]]:
    """Loads images, good for use at the sizes that `rule` gives, and groups them by `size`; bad ones keep
    their place between the others."""
    group: list[Loaded | BadImage] = []
    ready = 0
    for item in items:
        image = item if isinstance(item, BadImage) else item.load_for(rule)
        if isinstance(image, BadImage):
            logger.warning("%s: passed over: %s", image.path, image.reason)
            group.append(image)
        else:
            assert isinstance(item, NamedImage)
            group.append(Loaded(item, image))
            ready += 1
        if ready in (0, size):
            yield group
            group, ready = [], 0
    if group:
        yield group

"""A stream of pictures through a predictor: each is loaded while the one before is computed, order kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.inference.batches import Earlier, Known, Loaded, loaded_batches
from focus_detr.inference.deadline import DeadlineKeeper
from focus_detr.inference.progress import progress_bar
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.named import NamedImage
from focus_detr.inference.tiled import detect_in_tiles
from focus_detr.inference.tiles import Tiling
from focus_detr.inference.tracking.tracking import Place, Tracking
from focus_detr.structures.classes import Classes, reported_classes
from focus_detr.structures.instances import Instances

if TYPE_CHECKING:
    from focus_detr.inference.predictor import Predictor
    from focus_detr.inference.steadying import Steadying


class Stream:
    """What `Predictor.predict` was asked for, checked.

    Args:
        wanted: options of `Predictor.detect`: threshold, classes, budget, decoder_layers.
        batch_size, tiling, tracking, steadying, keep_images, known: see `Predictor.predict`.
    """

    def __init__(
        self,
        predictor: Predictor,
        wanted: Mapping[str, Any],
        batch_size: int,
        tiling: Tiling | None,
        tracking: Tracking | None,
        steadying: Steadying | None,
        keep_images: bool,
        known: Known | None,
    ) -> None:
        self.predictor, self.wanted, self.batch_size = predictor, wanted, batch_size
        self.tiling, self.tracking, self.steadying = tiling, tracking, steadying
        self.keep_images, self.known = keep_images, known

    def of(
        self, items: Generator[NamedImage | BadImage], bar_options: Mapping[str, Any]
    ) -> Generator[Detections | BadImage]:
        """The results of pictures, in order, as they are found; ``items`` end with them."""
        # Some images are wanted whole; all others need only be as good as whole at the model's size.
        whole = self.keep_images or self.tiling is not None
        rule = None if whole else getattr(self.predictor.processor, "size_of", None)
        # So that a batch of those that are detected comes together.
        every = 1 if self.tracking is None else self.tracking.detect_every
        size = 1 if self.tiling else self.batch_size * every
        # An error keeps all that was at work in its traceback, a camera that is looked at, too.
        with progress_bar("image", bar_options) as update, closing(items):
            resized = None if self.tiling is not None else getattr(self.predictor.processor, "resized", None)
            groups = loaded_batches(items, size, rule, self.known, resized=resized, ahead=self._ahead(size))
            for group in groups:
                loaded = [each for each in group if isinstance(each, Loaded)]
                places = [self._place(each) for each in loaded]
                detected = [each for each, place in zip(loaded, places, strict=True) if place.detected]
                found = iter(self._detected(detected, progress=not bar_options["disable"]))
                at = iter(places)
                for each in group:
                    update(1)
                    if isinstance(each, BadImage):
                        yield each
                    elif isinstance(each, Earlier):
                        yield _again(each, self.keep_images)
                    else:
                        place = next(at)
                        result = next(found) if place.detected else self._undetected(each)
                        image = each.image.image if self.keep_images else None
                        result = replace(result, image=image, frame=each.item.frame)
                        yield result if self.tracking is None else self.tracking.follow(result, place)

    def _ahead(self, size: int) -> int:
        # Where time is kept, nothing else is to take any of it.
        return 0 if isinstance(self.wanted["budget"], DeadlineKeeper) else max(2, size)

    def _place(self, loaded: Loaded) -> Place:
        return Place() if self.tracking is None else self.tracking.place(loaded.item.frame)

    def _detected(self, loaded: Sequence[Loaded], progress: bool) -> Iterator[Detections]:
        if self.tiling is not None:
            for each in loaded:
                yield detect_in_tiles(
                    self.predictor, each.image.image, self.tiling, path=each.item.name, **self.wanted,
                    batch_size=self.batch_size, progress=progress,
                )  # fmt: skip
            return
        for begin in range(0, len(loaded), self.batch_size):
            batch = loaded[begin : begin + self.batch_size]
            frames = [each.item.frame for each in batch]
            yield from self.predictor.detect(
                [each.small or each.image.image for each in batch],
                paths=[each.item.name for each in batch],
                sizes=[(each.image.size[1], each.image.size[0]) for each in batch],
                ranking=None if self.steadying is None else self.steadying.of(frames),
                **self.wanted,
            )

    def _undetected(self, loaded: Loaded) -> Detections:
        """The result, still empty, of an image that nobody looks at."""
        classes: Classes | None = self.wanted["classes"]
        names = self.predictor.class_names
        names = names if classes is None else reported_classes(classes, names)[1]
        none = replace(Instances.empty(), scores=np.zeros(0, dtype=np.float32))
        return Detections(loaded.item.name, none, names, loaded.image.size[::-1])


def _again(known: Earlier, keep_image: bool) -> Detections | BadImage:
    item, result = known.item, known.result
    if keep_image and isinstance(item, NamedImage) and item.frame is not None:
        if isinstance(result, Detections) and not isinstance(image := item.load(), BadImage):
            return replace(result, image=image)
    return result

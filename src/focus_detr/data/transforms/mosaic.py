"""Mosaic: four images around a random point (Bochkovskiy et al. 2020), drawn from the whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from focus_detr.data.records import Sample
from focus_detr.data.transforms.draws import Draws
from focus_detr.data.transforms.geometric import move_objects, random_window, resize
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import target_size
from focus_detr.structures.instances import Instances

_GREY = (114, 114, 114)


@dataclass(frozen=True)
class Mosaic:
    """With `probability`, a picture of this sample and three others, as large as `size` makes the first.

    Each of the four is resized as `size` says and fills its quarter with a random window of itself; what is
    too small for its quarter leaves grey, and objects of which less than the share `min_visible` is left are
    forgotten. `others` are the images to draw from (see `bound_to`).
    """

    size: dict[str, int]
    probability: float = 1.0
    others: Sequence[Sample] | None = None
    min_visible: float = 0.1

    def bound_to(self, samples: Sequence[Sample]) -> Mosaic:
        return replace(self, others=samples)

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        rng = draws.own
        if self.probability == 0 or rng.random() >= self.probability:
            return sample
        if self.others is None:
            raise FocusDetrError(
                "Mosaic needs a data set to take images from: wrap both in a TransformedDataset."
            )
        chosen = [self.others[int(index)] for index in rng.integers(len(self.others), size=3)]
        height, width = draws.target_size(sample.image.height, sample.image.width, self.size)
        middle_x = int(rng.integers(width * 3 // 10, width * 7 // 10 + 1))
        middle_y = int(rng.integers(height * 3 // 10, height * 7 // 10 + 1))
        quarters = (
            (0, 0, middle_x, middle_y),
            (middle_x, 0, width, middle_y),
            (0, middle_y, middle_x, height),
            (middle_x, middle_y, width, height),
        )

        canvas = Image.new("RGB", (width, height), _GREY)
        parts: list[Sample] = []
        for part, (left, top, right, bottom) in zip((sample, *chosen), quarters, strict=True):
            if right > left and bottom > top:
                part = self._window(part, right - left, bottom - top, rng)
                canvas.paste(part.image, (left, top))
                parts.append(move_objects(part, canvas, shift=(left, top)))
        return replace(
            sample,
            image=canvas,
            instances=Instances.concatenate([part.instances for part in parts]),
            crowds=Instances.concatenate([part.crowds for part in parts]),
            taught=None
            if sample.taught is None
            else Instances.concatenate([part.taught for part in parts if part.taught is not None]),
        )

    def _window(self, part: Sample, width: int, height: int, rng: np.random.Generator) -> Sample:
        part = resize(part, *target_size(part.image.height, part.image.width, self.size))
        height, width = min(height, part.image.height), min(width, part.image.width)
        return random_window(part, height, width, rng, self.min_visible)

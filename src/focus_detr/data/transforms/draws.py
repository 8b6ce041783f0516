"""What random transforms draw from: numbers of an image's own, and numbers that its batch shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focus_detr.images.reading import target_size

# Sides are told apart to a sixteenth of the shorter one: the shape of an image changes by 3 % at most.
_STEPS = 16


@dataclass(frozen=True)
class Draws:
    """Random numbers for one sample.

    Where images are trained on in batches, what sets their size comes from ``shared``, which is alike for all
    of them: images of one shape then leave the transforms with one size, and pass through a backbone together
    instead of one by one.

    Attributes:
        own: for what differs from image to image.
        shared: for what sets an image's size; ``own`` for an image by itself.
        together: whether ``shared`` is a batch's.
    """

    own: np.random.Generator
    shared: np.random.Generator
    together: bool = False

    @classmethod
    def alone(cls, *seed: int) -> Draws:
        """Of an image that shares its batch with no other."""
        rng = np.random.default_rng(seed)
        return cls(rng, rng)

    def target_size(self, height: int, width: int, size: dict[str, int]) -> tuple[int, int]:
        """Height and width, that ``size`` makes of an image; in a batch, of all of nearly its shape."""
        if self.together:
            portrait, steps = height > width, shape_of(height, width)
            height, width = (steps, _STEPS) if portrait else (_STEPS, steps)
            # target_size works on pixels: as many as no rounding matters for.
            height, width = 1024 * height, 1024 * width
        return target_size(height, width, size)


def shape_of(height: int, width: int) -> int:
    """The longer side in sixteenths of the shorter one."""
    return round(_STEPS * max(height, width) / min(height, width))

"""Which sizes of pictures transforms can give, known without a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from focus_detr.data.transforms.draws import Draws
from focus_detr.data.transforms.geometric import (
    Compose,
    OneOf,
    RandomCrop,
    RandomResize,
    Resize,
    ScaleJitter,
    Transform,
)
from focus_detr.data.transforms.mosaic import Mosaic

# Sides of a crop that are looked at, of the many between the least and the most.
_SIDES = 5

Sizes = tuple[tuple[int, int], ...]
"""(height, width) of each picture of a batch."""


def outcomes(transform: Transform, sizes: Sizes) -> Iterator[Sizes]:
    """What a batch of these sizes can become, the pictures' shared draws being alike: all that has to be
    looked at to find the largest. Transforms of others' are taken to keep a picture's size."""
    draws = Draws(np.random.default_rng(0), np.random.default_rng(0), together=True)

    def resized(size: dict[str, int]) -> Sizes:
        return tuple(draws.target_size(height, width, size) for height, width in sizes)

    if isinstance(transform, Compose):
        yield from _in_order(transform.steps, sizes)
    elif isinstance(transform, OneOf):
        for choice in transform.choices:
            yield from outcomes(choice, sizes)
    elif isinstance(transform, Resize | ScaleJitter):  # which crops what it has made larger
        yield resized(transform.size)
    elif isinstance(transform, Mosaic):
        yield sizes
        if transform.probability:
            yield resized(transform.size)
    elif isinstance(transform, RandomResize):
        longest = {} if transform.longest_edge is None else {"longest_edge": transform.longest_edge}
        for shortest in dict.fromkeys(transform.shortest_edges):
            yield resized({"shortest_edge": shortest, **longest})
    elif isinstance(transform, RandomCrop):
        sides = np.linspace(transform.smallest, transform.largest, _SIDES).round().astype(int).tolist()
        for rows, columns in product(sides, sides):
            yield tuple((min(height, rows), min(width, columns)) for height, width in sizes)
    else:
        yield sizes


def _in_order(steps: Sequence[Transform], sizes: Sizes) -> Iterator[Sizes]:
    if not steps:
        yield sizes
        return
    for outcome in dict.fromkeys(outcomes(steps[0], sizes)):
        yield from _in_order(steps[1:], outcome)

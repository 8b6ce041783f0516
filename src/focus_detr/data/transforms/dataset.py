"""TransformedDataset: a data set seen through random transforms that can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.records import Sample
from focus_detr.data.transforms.draws import Draws, shape_of
from focus_detr.data.transforms.geometric import Compose, OneOf, Transform
from focus_detr.data.transforms.mosaic import Mosaic

_SQUARE = (1, 1)  # for an image that cannot be read: another will take its place
# Sets the numbers of batches apart from those of images.
_OF_BATCHES = 1


class Place(NamedTuple):
    """An item of a data set as one of a batch (that of a step: its micro-batches are one): its number in the
    set, and that of the batch in its epoch."""

    item: int
    batch: int


class TransformedDataset(Dataset[Sample]):
    """`dataset` with `transforms` applied to each sample.

    The randomness of item i in epoch e comes from (seed, e, i) alone, so any number of workers, any order and
    any restart give the same samples. What sets an image's size comes from (seed, e, batch) instead where an
    item is asked for as one of a batch, by `Place`. Call `set_epoch` before each pass.
    """

    def __init__(self, dataset: DetectionDataset, transforms: Transform, seed: int = 0) -> None:
        self.dataset = dataset
        self.transforms = _lend(transforms, dataset)
        self.seed = seed
        # Shared memory: workers that outlive an epoch see the new number too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def shapes(self) -> list[int]:
        """The shape of each image (see `shape_of`), negative for those that stand upright."""
        sizes = [size or _SQUARE for size in self.dataset.sizes()]
        return [shape_of(height, width) * (-1 if height > width else 1) for width, height in sizes]

    def __getitem__(self, index: int | Place) -> Sample:
        batch = index.batch if isinstance(index, Place) else None
        index = index.item if isinstance(index, Place) else index
        index = index + len(self) if index < 0 else index
        draws = Draws.alone(self.seed, self.epoch, index)
        if batch is not None:
            shared = np.random.default_rng([self.seed, self.epoch, batch, _OF_BATCHES])
            draws = Draws(draws.own, shared, together=True)
        sample = self.transforms(self.dataset[index], draws)
        return replace(sample, noise_seed=int(draws.own.integers(2**62)))


def _lend(transforms: Transform, dataset: DetectionDataset) -> Transform:
    if isinstance(transforms, Mosaic):
        return transforms.bound_to(cast(Sequence[Sample], dataset))
    if isinstance(transforms, Compose):
        return Compose(tuple(_lend(step, dataset) for step in transforms.steps))
    if isinstance(transforms, OneOf):
        return OneOf(tuple(_lend(choice, dataset) for choice in transforms.choices))
    return transforms

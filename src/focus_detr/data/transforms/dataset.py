"""TransformedDataset: a data set seen through random transforms that can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch.utils.data import Dataset

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.records import Sample
from focus_detr.data.transforms.geometric import Compose, OneOf, Transform
from focus_detr.data.transforms.mosaic import Mosaic


class TransformedDataset(Dataset[Sample]):
    """`dataset` with `transforms` applied to each sample.

    The randomness of item i in epoch e comes from (seed, e, i) alone, so any number of workers, any order and
    any restart give the same samples. Call `set_epoch` before each pass.
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

    def __getitem__(self, index: int) -> Sample:
        index = index + len(self) if index < 0 else index
        rng = np.random.default_rng([self.seed, self.epoch, index])
        sample = self.transforms(self.dataset[index], rng)
        return replace(sample, noise_seed=int(rng.integers(2**62)))


def _lend(transforms: Transform, dataset: DetectionDataset) -> Transform:
    if isinstance(transforms, Mosaic):
        return transforms.bound_to(cast(Sequence[Sample], dataset))
    if isinstance(transforms, Compose):
        return Compose(tuple(_lend(step, dataset) for step in transforms.steps))
    if isinstance(transforms, OneOf):
        return OneOf(tuple(_lend(choice, dataset) for choice in transforms.choices))
    return transforms

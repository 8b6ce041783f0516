"""Which images make up each batch: a function of seed and epoch alone, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from focus_detr.errors import FocusDetrError


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of one process's share of each epoch's shuffled images.

    The shuffled images are cut into micro-batches of ``batch_size``, and each of those into one share per
    process; so every image is seen once an epoch and a step sees the same images however many processes share
    it. Images left over that cannot give every process one are left out of that epoch.

    Args:
        dataset: has a length, and ``set_epoch(epoch)`` where its augmentation depends on the epoch.
        batch_size: images of a micro-batch over all processes.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < world_size or len(dataset) < world_size:
            raise FocusDetrError(
                f"{world_size} processes need a micro-batch and a data set of as many images at least, "
                f"not {batch_size} and {len(dataset)}; raise batch_size or start fewer processes"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest >= self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield np.array_split(batch, self.world_size)[self.rank].tolist()


class PlainDataLoader(DataLoader):
    """Does not warn, every epoch, of more workers than cores: the recipe asks for them, and reading pictures
    overlaps with computing on one core, too."""

    def check_worker_number_rationality(self) -> None:
        return


class EpochDataLoader(PlainDataLoader):
    """A data loader that passes the epoch on to its batch sampler."""

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, EpochBatchSampler)
        self.batch_sampler.set_epoch(epoch)

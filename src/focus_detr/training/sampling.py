"""Which images make up each batch: a function of seed and epoch alone, whatever the number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from focus_detr.data.transforms.dataset import Place
from focus_detr.errors import FocusDetrError
from focus_detr.training.interruption import in_worker

STANDS_IN = "stands_in"
# Labels that an image has; all others are its objects', one a row.
_OF_IMAGES = {"size", "orig_size", "image_id", "noise_seed"}
# Steps whose images are sorted by shape together: enough to find each its like, too few to order an epoch.
_SORTED = 16


class EpochBatchSampler(Sampler[list[Place]]):
    """Batches of one process's share of each epoch's shuffled images.

    The shuffled images are cut into steps, those into ``accumulation`` micro-batches of ``batch_size``, and
    each of those into one share per process; so every image is seen once an epoch and a step sees the same
    images however many processes and micro-batches share it. Where the last images of an epoch cannot give
    every process one, those without have an image of the batch to stand in (`stands_in`): it keeps them in
    step with the others, and counts for nothing.

    Where the data set knows the ``shapes`` of its images, those of one shape come together: a few batches'
    worth of shuffled images at a time are sorted by shape, and the steps shuffled again. A step draws one
    scale for all its images (see `Place`), so that they pass through the backbone together.

    Args:
        dataset: has a length, and ``set_epoch(epoch)`` where its augmentation depends on the epoch.
        batch_size: images of a micro-batch over all processes.
        accumulation: micro-batches of a step.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
    ) -> None:
        if batch_size < world_size:
            raise FocusDetrError(
                f"{world_size} processes need a micro-batch of as many images at least, not {batch_size}; "
                "raise batch_size or start fewer processes"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.accumulation = accumulation
        self.epoch = 0
        shapes = getattr(dataset, "shapes", None)
        self.shapes = None if shapes is None else np.asarray(shapes)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.batch_size)

    def stands_in(self, number: int) -> bool:
        """Whether the epoch's micro-batch of that number has no image for this process."""
        return len(self.dataset) - number * self.batch_size <= self.rank

    def __iter__(self) -> Iterator[list[Place]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.dataset))
        step = self.batch_size * self.accumulation
        if self.shapes is not None:
            chunk = step * _SORTED
            chunks = np.split(order, range(chunk, len(order), chunk))
            order = np.concatenate([some[np.argsort(self.shapes[some], kind="stable")] for some in chunks])
        starts = np.arange(0, len(order), step)
        # A smaller last step stays the last.
        whole = len(order) // step
        starts[:whole] = rng.permutation(starts[:whole])
        order = np.concatenate([order[start : start + step] for start in starts])
        for number in range(len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            share = np.array_split(batch, self.world_size)[self.rank]
            if self.stands_in(number):
                share = batch[:1]
            yield [Place(int(index), number // self.accumulation) for index in share]


class PlainDataLoader(DataLoader):
    """Does not warn, every epoch, of more workers than cores: the recipe asks for them, and reading pictures
    overlaps with computing on one core, too."""

    def check_worker_number_rationality(self) -> None:
        return


def load_steps(
    sampler: EpochBatchSampler,
    done: int,
    collator: Callable[[Any], dict[str, Any]],
    workers: int,
    device: torch.device,
) -> Iterator[list[dict[str, Any]]]:
    """What is left of the sampler's epoch after ``done`` steps: the micro-batches of each.

    One that stands in has no objects, and says so by the key `STANDS_IN`.
    """
    loader = PlainDataLoader(
        sampler.dataset,
        batch_sampler=list(sampler)[done * sampler.accumulation :],
        collate_fn=collator,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=in_worker,
        # Of its own: a resumed run must not draw a seed for its workers from the model's generator.
        generator=torch.Generator().manual_seed(sampler.seed),
    )
    first = done * sampler.accumulation
    batches = (
        _without_objects(batch) if sampler.stands_in(number) else batch
        for number, batch in enumerate(loader, first)
    )
    while step := list(islice(batches, sampler.accumulation)):
        yield step


def _without_objects(batch: dict[str, Any]) -> dict[str, Any]:
    labels = [
        {name: value if name in _OF_IMAGES else value[:0] for name, value in label.items()}
        for label in batch["labels"]
    ]
    return {**batch, "labels": labels, STANDS_IN: True}

"""How many micro-batches a step is cut into, where memory is to say: ``gradient_accumulation: auto``."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.losses.whole_step import computing_alone
from focus_detr.training.assembly import Assembly
from focus_detr.training.failures import is_out_of_memory
from focus_detr.training.largest_batch import largest_batch
from focus_detr.training.loop import TrainingLoop
from focus_detr.training.memory_meter import MemoryMeter
from focus_detr.training.processes import anywhere
from focus_detr.training.recipe import Recipe
from focus_detr.training.sharding import sharding_plugin

logger = logging.getLogger(__name__)

_USED = 0.85  # share of the memory: what steps leave in pieces, and readers of images, need the rest
_GIB = 2**30


def fit_to_memory(
    assembly: Assembly, model: str | Path | PreTrainedModel, recipe: Recipe, output: Path
) -> Recipe:
    """The recipe with the fewest micro-batches that memory holds, of those that divide the batch evenly.

    Each number is tried by steps of a run that is then thrown away, on the largest pictures that the
    transforms can give; of several processes the one that needs most decides. Nothing reaches the run itself:
    that is assembled anew, from the same seed.

    Raises:
        FocusDetrError: memory does not hold an image a process, or cannot be measured.
    """
    if sharding_plugin() is not None:
        # A process that has no memory left would leave the others waiting for its shards.
        raise FocusDetrError("gradient_accumulation='auto': not with a model in shards (FSDP); give a number")
    trial = _Trial(assembly, model, recipe, output)
    left = trial.likely(_numbers(recipe.batch_size, assembly.accelerator.num_processes))
    for number in left:
        peak = trial.peak(number)
        if peak is not None and (trial.fits(peak) or number == left[-1]):
            if assembly.accelerator.is_main_process:
                logger.info("%s", _said(recipe.batch_size, number, peak, trial.usable))
            return dataclasses.replace(recipe, gradient_accumulation=number)
    raise FocusDetrError(
        f"gradient_accumulation='auto': memory of {assembly.accelerator.device} does not hold a step of one "
        f"image a process at a time. Lower what it needs: gradient_checkpointing: true (now "
        f"{str(recipe.gradient_checkpointing).lower()}), precision: bf16 (now {recipe.precision}), "
        f"shortest_edge and longest_edge below {recipe.shortest_edge} and {recipe.longest_edge}"
    )


def _numbers(batch_size: int, processes: int) -> list[int]:
    """Of micro-batches that a batch and its processes can share evenly, the fewest first."""
    share = batch_size // processes
    return [number for number in range(1, share + 1) if share % number == 0]


class _Trial:
    """Steps of a run, for the memory they take."""

    def __init__(
        self, assembly: Assembly, model: str | Path | PreTrainedModel, recipe: Recipe, output: Path
    ) -> None:
        self.assembly, self.model, self.recipe, self.output = assembly, model, recipe, output
        self.accelerator: Accelerator = assembly.accelerator
        self.meter = MemoryMeter(self.accelerator.device)
        self.usable = self.meter.usable()
        """Bytes that this process can have."""

    def likely(self, numbers: list[int]) -> list[int]:
        """Those to try.

        The system ends processes that take more memory than a machine has, and nobody can catch it: without a
        GPU what a number needs is first told by the line through steps of one and of two images a process.
        """
        share = self.recipe.batch_size // self.accelerator.num_processes
        if self.meter.device.type != "cpu" or share <= 2:
            return numbers
        one, two = self.peak(share), self._peak(2, 2)
        if one is None or two is None:
            return numbers[-1:]
        each = max(0, two - one)
        fits = [one + each * (share // number - 1) <= _USED * self.usable for number in numbers]
        first = sum(anywhere(self.accelerator, *(not fit for fit in fits)))
        return numbers[min(first, len(numbers) - 1) :]

    def fits(self, peak: int) -> bool:
        """Whether all processes have room to spare, this one at its ``peak``."""
        return not any(anywhere(self.accelerator, peak > _USED * self.usable))

    def peak(self, number: int) -> int | None:
        """Bytes that this process takes at most in a step of so many micro-batches; None where memory ran out
        in one of the processes."""
        return self._peak(self.recipe.batch_size // self.accelerator.num_processes // number, number)

    def _peak(self, images: int, number: int) -> int | None:
        ran_out = False
        recipe = dataclasses.replace(
            self.recipe,
            batch_size=images * number * self.accelerator.num_processes,
            gradient_accumulation=number,
        )
        loop, _ = self.assembly.loop(copy.deepcopy(self.model), recipe, self.output, ())
        try:
            with self.meter.measuring():
                _take_step(loop, images, number)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            ran_out = True
        del loop
        self.accelerator.free_memory()  # collects what nobody holds any more
        if any(anywhere(self.accelerator, ran_out)):
            return None
        return self.meter.peak


def _take_step(loop: TrainingLoop, images: int, number: int) -> None:
    """One step of the largest pictures, in this process alone, as if it were not the first: the optimiser has
    its averages, and parameters the gradients of another micro-batch where there is one."""
    small, large = (largest_batch(loop.dataset, loop.collator, count) for count in (1, images))
    loop.model.called = loop.model.trained
    loop.model.called.train()
    with computing_alone():
        loop.compute_gradients([dict(small)])
        loop.updater.update()
        loop.compute_gradients([dict(small), large] if number > 1 else [large])
        loop.updater.clip()
        loop.updater.update()


def _said(batch_size: int, number: int, peak: int, usable: int) -> str:
    parts = "in one go" if number == 1 else f"in {number} micro-batches of {batch_size // number}"
    return f"batch of {batch_size} {parts}: {peak / _GIB:.3g} of {usable / _GIB:.3g} GiB"

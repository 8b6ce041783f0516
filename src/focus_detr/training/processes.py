"""The processes that train together, one a GPU, and what they say to each other."""

from __future__ import annotations

import datetime
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import DistributedType, gather_object

from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import Recipe
from focus_detr.training.sharding import sharding_plugin

# An evaluator of one's own runs in the first process while the others wait for its numbers.
_PATIENCE = datetime.timedelta(hours=3)


def join_processes(use_cpu: bool = False) -> Accelerator:
    """This process's accelerator; under torchrun, it joins the others here.

    Mixed precision stays with the training loop: accelerate's is a setting of the whole process.
    """
    # Accelerate joins processes of CPUs only where it is told that there is nothing else.
    use_cpu = use_cpu or not torch.accelerator.is_available()
    state = PartialState(cpu=use_cpu, timeout=_PATIENCE)
    if not state.use_distributed:
        # Accelerate keeps the first device a process asked for; the next run may want another.
        state.device = torch.device("cpu") if use_cpu else state.default_device
    accelerator = Accelerator(
        cpu=use_cpu,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise FocusDetrError(
            "DeepSpeed: not supported; start the processes by torchrun, each with the whole model, or with "
            "accelerate launch --use_fsdp --fsdp_version 2, each with a part of it"
        )
    sharding_plugin()  # refused now, if it is
    return accelerator


def is_first() -> bool:
    """Whether this process is the only one, or the first of those that train together."""
    return bool(PartialState().is_main_process)


def check_share(recipe: Recipe, processes: int) -> None:
    """Raise `FocusDetrError` where a step's images cannot be shared evenly."""
    micro_batch, rest = divmod(recipe.batch_size // recipe.micro_batches, processes)
    if rest or not micro_batch:
        raise FocusDetrError(
            f"batch_size={recipe.batch_size} in {recipe.micro_batches} micro-batches cannot be "
            f"shared by {processes} processes; take a multiple of {recipe.micro_batches * processes}"
        )


def anywhere(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Whether each flag is set in any process, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return list(flags)
    values = torch.tensor([float(flag) for flag in flags], device=accelerator.device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def mean_of_all(accelerator: Accelerator, values: dict[str, float]) -> dict[str, float]:
    """Each number's mean over the processes; one that a process lacks counts as 0 there."""
    if accelerator.num_processes == 1:
        return values
    gathered: list[dict[str, float]] = gather_object([values])
    names = dict.fromkeys(name for each in gathered for name in each)
    return {name: sum(each.get(name, 0.0) for each in gathered) / len(gathered) for name in names}


def from_first(accelerator: Accelerator, value: Any) -> Any:
    """The first process's ``value``, in all of them."""
    if accelerator.num_processes == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]

"""Numbers of a whole step: of the images of all processes that share it, whichever has which."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from focus_detr.structures.scoped import Scoped

_standing_in = Scoped("standing_in", False)
_alone = Scoped("computing_alone", False)


def standing_in(whether: bool = True) -> AbstractContextManager[None]:
    """Within it, where ``whether``, this process has no image of its own: it computes with another's, for the
    company of the others, and counts for nothing. Its loss is the caller's to leave out."""
    return _standing_in.to(whether)


def computing_alone() -> AbstractContextManager[None]:
    """Within it, a step is this process's own, and it waits for no other."""
    return _alone.to(True)


def several_processes() -> bool:
    return not _alone.get() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_of_processes(count: Tensor, least: float = 1.0) -> Tensor:
    """A count that sums of a step are divided by, at least ``least``, averaged over the processes."""
    if not several_processes():
        return count.clamp(min=least)
    count = _counted(count)
    dist.all_reduce(count)
    # At least one object in all processes together, not in each: several then train as one does.
    return count.clamp(min=least) / dist.get_world_size()


def mean_of_images(values: Tensor) -> Tensor:
    """The mean of values (B,) of this process's images, over the images of all: processes may have more of
    them than others. Averaged over the processes, it is that of one process."""
    if not several_processes():
        return values.mean()
    return values.sum() / mean_of_processes(values.new_full((), float(len(values))))


def most_of_processes(count: int, device: torch.device) -> int:
    """The largest of the processes' counts."""
    if not several_processes():
        return count
    largest = _counted(torch.full((), count, device=device))
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def sum_of_processes(values: Tensor) -> Tensor:
    """Sums over the processes, with a gradient."""
    return all_reduce(_counted(values)) if several_processes() else values


def _counted(values: Tensor) -> Tensor:
    return values * 0 if _standing_in.get() else values

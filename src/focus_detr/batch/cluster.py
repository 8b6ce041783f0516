"""Blocks given to the machines of a Ray cluster, or to the cores of this one, by Ray Data.

Ray decides where a block is looked at, and has it looked at again where a process or a machine was lost. It
need not do so exactly once: a block looked at twice is committed under one name, with the same results.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from focus_detr.batch.blocks import BlockPlace
from focus_detr.batch.environment import WAIT_ASLEEP, unless_set
from focus_detr.batch.ledger import Ledger
from focus_detr.batch.working import Done, Work, worker_of
from focus_detr.errors import FocusDetrError

_BLOCKS_A_TASK = 4
_BLOCKS_A_PASS = 50_000
"""Of a run of millions of blocks, so many are with Ray at a time: they lie in the driver's memory."""
_CPUS = 4
_PATIENCE = 10.0
"""Seconds that a cluster has to answer."""
_OF_OUR_OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing of a run is told to anybody
    # Else 15 more than this process: on a busy machine the model would wait for all that runs beside.
    "RAY_worker_niceness": "0",
    **WAIT_ASLEEP,
}
"""Settings of a Ray that is started for one run."""


def ray() -> Any:
    """The package; raises `FocusDetrError` where it is missing."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise FocusDetrError(
            f"batch needs Ray Data ({error}): pip install 'focus-detr[batch]'; or add --local, for one "
            "process on this machine"
        ) from error
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[bool]:
    """Inside, Ray is there: that of ``address``, of RAY_ADDRESS, or one started now and ended afterwards.

    Gives whether it is this machine alone, to which none will be added.

    Raises:
        FocusDetrError: there is no cluster at the address.
    """
    module = ray()
    if module.is_initialized():
        yield False
        return
    asked = address or os.environ.get("RAY_ADDRESS")
    # Told nothing, Ray would look for a cluster that was once on this machine.
    where = {"address": asked} if asked else {"address": "local", "include_dashboard": False}
    if asked:
        _refuse_silence(asked)
    with unless_set({} if asked else _OF_OUR_OWN):
        # Of a Ray of this machine it warns, at each start, that only those with its token may use it.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        try:
            module.init(**where, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise FocusDetrError(f"--address {asked}: no Ray cluster answers there ({error})") from error
        try:
            yield not asked
        finally:
            module.shutdown()


def _refuse_silence(address: str) -> None:
    """Raise `FocusDetrError` where nothing listens, for which Ray would wait by the half hour."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # auto, and what else Ray looks up
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise FocusDetrError(f"--address {address}: no Ray cluster answers there ({error})") from error


def run_on_ray(
    work: Work,
    ledger: Ledger,
    pending: Iterable[BlockPlace],
    *,
    workers: int | None = None,
    cpus: int | None = None,
    alone: bool = False,
) -> Iterator[Done]:
    """Blocks as they are done, in any order; inside of `connected`.

    Args:
        workers: processes that look at blocks at a time; as many as there is room for when None.
        cpus: of each; when None an equal share of all for each GPU, and 4 where there is none.
        alone: no other machine will come; else more CPUs than any has now are waited for.

    Raises:
        FocusDetrError: more CPUs than there are; as `Worker`.
    """
    module = ray()
    total = module.cluster_resources()
    gpus = int(total.get("GPU", 0)) if work.device in (None, "cuda") else 0
    all_cpus = max(1, int(total.get("CPU", 1)))
    if alone and cpus is not None and cpus > all_cpus:
        raise FocusDetrError(f"--cpus {cpus}: this machine has {all_cpus}; ask for as many at most")
    if cpus is None:
        cpus = max(1, all_cpus // gpus) if gpus else min(_CPUS, _least_cpus(module))
    work = replace(work, threads=cpus if work.threads is None else work.threads)
    room = workers or (gpus or max(1, all_cpus // cpus))
    options: dict[str, Any] = {"num_cpus": cpus}
    if gpus:
        options["num_gpus"] = 1
    if workers is not None:
        options["compute"] = module.data.TaskPoolStrategy(size=workers)
    places = iter(pending)
    while some := list(islice(places, _BLOCKS_A_PASS)):
        # A task is small enough for all to end at about the same time.
        size = max(1, min(_BLOCKS_A_TASK, len(some) // (2 * room)))
        rows = [{"number": each.number, "first": each.first, "end": each.end} for each in some]
        with _quietly(module):
            blocks = module.data.from_items(rows, override_num_blocks=-(-len(rows) // size))
            # Tasks and not actors: those of a lost machine start anew wherever there is room. With max_calls
            # 0, a process keeps its model for the next one, on a GPU, too.
            done = blocks.map_batches(
                _look_at, batch_size=size, fn_args=(work, ledger), max_calls=0, **options
            )
            # Told as they come: nothing is gained by having the next ones here first.
            for batch in done.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
                columns = {name: values.tolist() for name, values in batch.items()}
                for row in zip(*columns.values(), strict=True):
                    values = dict(zip(columns, row, strict=True))
                    if message := values.pop("error"):
                        raise FocusDetrError(message)
                    yield Done(**values)


def _look_at(batch: dict[str, np.ndarray], work: Work, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Run by a process of Ray: blocks by their place in the manifest, in; what is committed, out."""
    places = [
        BlockPlace(int(number), int(first), int(end))
        for number, first, end in zip(batch["number"], batch["first"], batch["end"], strict=True)
    ]
    # What was committed before this process took over from one that was lost.
    left = [each for each in places if not ledger.part(each.number).exists()]
    try:
        worker = worker_of(work)
        for done in worker.run((each.number, each.read(ledger.manifest)) for each in left):
            yield _row(done, "")
    except FocusDetrError as error:  # told as a value, which Ray wraps into no traceback of its own
        yield _row(Done(-1, 0, 0, 0, 0.0), str(error))


def _row(done: Done, error: str) -> dict[str, Any]:
    return {name: np.array([value]) for name, value in {**vars(done), "error": error}.items()}


def _least_cpus(module: Any) -> int:
    """Those of the smallest machine: what each must have room for."""
    found = [int(node["Resources"].get("CPU", 0)) for node in module.nodes() if node["Alive"]]
    return max(1, min((each for each in found if each), default=1))


@contextmanager
def _quietly(module: Any) -> Iterator[None]:
    """Ray Data without its own bars and messages, which this run has in its own way; told row by row."""
    context, logger = module.data.DataContext.get_current(), logging.getLogger("ray.data")
    # Ray Data would gather rows to megabytes: the bar would move when a whole task has ended.
    ours = {"enable_progress_bars": False, "target_max_block_size": 1, "target_min_block_size": 1}
    before, level = {name: getattr(context, name) for name in ours}, logger.level
    for name, value in ours.items():
        setattr(context, name, value)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)

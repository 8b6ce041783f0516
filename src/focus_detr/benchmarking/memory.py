"""Peak memory of a piece of work, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError

_MIB = 2**20


@dataclass(frozen=True)
class PeakMemory:
    """MiB of memory.

    Attributes:
        prepared: resident once all is imported and loaded, before the work.
        peak: most that was resident at once during the work.
        device: most that torch held on the GPU at once; None without one.
    """

    prepared: float
    peak: float
    device: float | None = None

    @property
    def growth(self) -> float:
        """What the work took beyond what was loaded."""
        return self.peak - self.prepared


def peak_memory(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> PeakMemory:
    """Memory that ``prepare(*arguments)()`` takes, in a fresh process: nothing measured before is in it.

    Args:
        prepare: imports and loads what the work needs, and gives the work. A function of a module, since the
            new process finds it by name.

    Raises:
        FocusDetrError: the process was killed, as it is where memory does not suffice.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_measure, prepare, arguments).result()
    except BrokenProcessPool as error:
        raise FocusDetrError(
            "the process that measured memory was killed: most likely there is not enough of it; "
            "use a smaller size or batch"
        ) from error


def _measure(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> PeakMemory:
    work = prepare(*arguments)
    _forget_peak()
    prepared = _resident()
    work()
    return PeakMemory(prepared, max(_peak(), prepared), _device_peak())


def _status(key: str) -> float | None:
    """A line of Linux's account of this process, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), None)


def _forget_peak() -> None:
    # Loading weights takes more than having them. Where the peak cannot be reset, it stays an upper bound.
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _resident() -> float:
    resident = _status("VmRSS")
    if resident is not None:
        return resident
    import psutil

    return psutil.Process().memory_info().rss / _MIB


def _peak() -> float:
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / _MIB
    import resource

    # Bytes on macOS, KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)


def _device_peak() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / _MIB

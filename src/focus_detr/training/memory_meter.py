"""How much memory there is for a process that trains, and the most it took."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from focus_detr.errors import FocusDetrError
from focus_detr.machine import free_memory

_LOOKING_S = 0.005


class MemoryMeter:
    """Of a GPU, by what torch allocates there, or of the machine, by what is resident.

    Attributes:
        peak: bytes that the process held at most within `measuring`, with what it held before.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type not in ("cuda", "cpu"):
            raise FocusDetrError(
                f"gradient_accumulation='auto': what memory {device.type!r} has is not known; give a number"
            )
        self.device, self.peak = device, 0

    def usable(self) -> int:
        """Bytes that the process has or can have; processes on one machine's memory get a share each."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            return torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)
        return _resident() + free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))

    @contextmanager
    def measuring(self) -> Iterator[None]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            try:
                yield
            finally:
                self.peak = torch.cuda.max_memory_allocated(self.device)
            return
        self.peak, ended = _resident(), threading.Event()

        def look() -> None:
            while not ended.wait(_LOOKING_S):
                self.peak = max(self.peak, _resident())

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            ended.set()
            looking.join()
            self.peak = max(self.peak, _resident())


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)

"""Ctrl-C and SIGTERM end a run at the end of its step, after a checkpoint, instead of in the middle of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether the process was asked to end, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: at once, as Python does it
            self.end()
        self.signal = number

    def end_all(self, received: Sequence[bool]) -> NoReturn:
        """End as the signal would have that any process got, of `SIGNALS`; a second one ends at once."""
        self.signal = next((number for number, by in zip(SIGNALS, received, strict=True) if by), None)
        self.end()

    def end(self) -> NoReturn:
        """End as the signal would have, had nobody waited for the step's end."""
        if self.signal in (None, signal.SIGINT):
            raise KeyboardInterrupt
        raise SystemExit(128 + self.signal)


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Within it, signals are noted rather than obeyed; only a process's main thread can do so."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.handle) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


# Seconds that a data loader's process lives on after SIGTERM: longer than any step it still feeds.
_GRACE = 120


def in_worker(worker: int) -> None:
    """For a data loader's processes, which inherit the handlers: the training process ends them itself.

    Both signals often go to a whole group of processes (Ctrl-C, `timeout`, systemd), and a worker that obeyed
    would take its pictures from the step under way, and with them the checkpoint.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later if hasattr(signal, "alarm") else signal.SIG_DFL)


def _end_later(number: int, frame: FrameType | None) -> None:
    # Not ignored for good: whoever waits for the process must not wait for ever.
    signal.alarm(_GRACE)

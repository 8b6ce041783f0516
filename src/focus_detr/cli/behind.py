"""Work behind the model: drawing and writing what was found, while it looks at the next picture."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any, Self

MOST = 4
"""Results that wait at the most; with pictures to draw on, they hold these."""


class Behind:
    """Does something with each value, in order, in a thread of its own; entered by `with`.

    Left, for whatever reason, it has done it with all that were added. What it raises ends it, and is raised
    by the next `add`, or in the end.
    """

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._work = work
        self._values: Queue[Any] = Queue(MOST)
        self._error: BaseException | None = None
        # Not waited for if somebody interrupts the waiting.
        self._thread = threading.Thread(target=self._run, name="focus-detr-behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def add(self, value: Any) -> None:
        """Have it done soon; waits where too many wait already."""
        self._raise()
        self._values.put(value)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._values.put(_END)
        self._thread.join()
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (value := self._values.get()) is not _END:
            if self._error is None:
                try:
                    self._work(value)
                except BaseException as error:
                    self._error = error


_END = object()

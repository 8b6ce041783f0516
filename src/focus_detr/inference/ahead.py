"""Work done ahead, in a thread of its own, in order and within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

HEAVIEST = 50_000_000
"""Pixels that wait at the most, of pictures done ahead: 150 MB."""


def done_ahead(
    items: Iterable[Item],
    work: Callable[[Item], Done],
    *,
    count: int,
    known: Callable[[Item], Callable[[], Done] | None],
    weight: Callable[[Done], int],
    at_once: Callable[[Item], bool],
) -> Generator[tuple[Item, Done]]:
    """Items and what `work` makes of them, in order; while nobody asks, the next `count` are worked on.

    The items themselves are asked for here, in the thread of whoever asks, no sooner than needed. The first
    is worked on alone: what it weighs says how many may wait.

    Args:
        work: raises nothing.
        known: what is there already of an item, for which no work is to be done.
        weight: of what was made, in pixels.
        at_once: items that are handed over before the next one is asked for, as frames of a camera.
    """
    if count < 1:
        for item in items:
            yield item, (known(item) or partial(work, item))()
        return
    worker = _Worker()
    waiting: deque[tuple[Item, Callable[[], Done]]] = deque()
    bound = 0
    try:
        for item in items:
            waiting.append((item, known(item) or worker.start(work, item)))
            while len(waiting) > (0 if at_once(item) else bound):
                first, result = waiting.popleft()
                done = result()
                bound = min(count, HEAVIEST // max(1, weight(done)))
                yield first, done
        while waiting:
            first, result = waiting.popleft()
            yield first, result()
    finally:
        worker.stop()


class _Worker:
    """One thread. Nobody waits for it: a run that is interrupted ends, whatever a server still sends."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[Any], Any], Any] | None] = SimpleQueue()
        self._stopped = False
        threading.Thread(target=self._run, name="focus-detr-ahead", daemon=True).start()

    def start(self, work: Callable[[Item], Done], item: Item) -> Callable[[], Done]:
        future: Future[Done] = Future()
        self._tasks.put((future, work, item))
        return future.result

    def stop(self) -> None:
        """Nothing that has not begun is done any more."""
        self._stopped = True
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopped:
            future, work, item = task
            try:
                future.set_result(work(item))
            except BaseException as error:  # whoever asks for the result is told
                future.set_exception(error)

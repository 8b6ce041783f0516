"""Work done ahead of whoever needs it, by other threads, in order and within bounds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """As ``map``: each result in its turn, made by one of several threads before it is asked for.

    ``items`` are taken by one more thread. At most ``2 * threads + 2`` of them have been taken and not been
    given as results, however slow the taker. What ``items`` or ``work`` raise is raised here.
    """
    waiting: queue.Queue[Future[R] | BaseException | None] = queue.Queue(maxsize=2 * threads)
    stopped = threading.Event()

    def put(entry: Future[R] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def feed() -> None:
        try:
            for item in items:
                if stopped.is_set():
                    return
                put(pool.submit(work, item))
            put(None)
        except BaseException as error:  # raised where the results are taken
            put(error)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    feeder = threading.Thread(target=feed, name="feed", daemon=True)
    feeder.start()
    try:
        while (entry := waiting.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry.result()
    finally:
        stopped.set()
        feeder.join()
        pool.shutdown(cancel_futures=True)

"""Work ahead of its taker: in order, bounded, and with its errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from focus_detr.batch.ahead import ahead


def test_results_come_in_order_whoever_is_ready_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(ahead(work, range(20), threads=3)) == list(range(20))


def test_no_more_is_taken_than_the_bound_says_however_slow_the_taker() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    threads = 2
    results = ahead(lambda number: number, items(), threads)
    most = 0
    for number in results:
        time.sleep(0.02)
        most = max(most, taken - number)
        if number == 10:
            break
    results.close()
    assert 2 <= most <= 2 * threads + 2


def test_work_goes_on_while_the_taker_is_busy() -> None:
    ready = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            ready.set()
        return number

    results = ahead(work, range(3), threads=1)
    assert next(results) == 0
    assert ready.wait(10)
    results.close()


@pytest.mark.parametrize("where", ["items", "work"])
def test_errors_reach_the_taker(where: str) -> None:
    def items() -> Iterator[int]:
        yield 1
        if where == "items":
            raise ValueError("broken")

    def work(number: int) -> int:
        if where == "work":
            raise ValueError("broken")
        return number

    with pytest.raises(ValueError, match="broken"):
        list(ahead(work, items(), threads=2))


def test_nothing_is_left_running_when_the_taker_leaves() -> None:
    before = threading.active_count()
    results = ahead(lambda number: number, iter(int, 1), threads=2)
    next(results)
    results.close()
    assert threading.active_count() == before

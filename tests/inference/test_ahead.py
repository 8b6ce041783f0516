"""Work ahead: it overlaps, keeps its order, is bounded, and ends with whoever asked for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from focus_detr.inference.ahead import HEAVIEST, done_ahead


class Loads:
    """Items 0, 1, 2, ..., and what was asked for and worked on of them."""

    def __init__(self, count: int = 20, weight: int = 1) -> None:
        self.count, self.weight = count, weight
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self.done = [threading.Event() for _ in range(count)]

    def items(self) -> Iterator[int]:
        for item in range(self.count):
            self.asked.append(item)
            yield item

    def work(self, item: int) -> int:
        self.threads.add(threading.current_thread().name)
        self.done[item].set()
        return 10 * item

    def ahead(self, count: int, known=lambda item: None, at_once=lambda item: False):
        return done_ahead(
            self.items(),
            self.work,
            count=count,
            known=known,
            weight=lambda done: self.weight,
            at_once=at_once,
        )


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_everything_comes_in_order(count):
    known = lambda item: None if item % 3 else (lambda: -item)  # noqa: E731
    found = list(Loads().ahead(count, known))
    assert found == [(item, 10 * item if item % 3 else -item) for item in range(20)]


def test_the_next_ones_are_done_while_nobody_asks_and_no_more_are_asked_for():
    loads = Loads()
    turns = loads.ahead(3)
    assert next(turns) == (0, 0)
    assert next(turns) == (1, 10)
    assert all(event.wait(5) for event in loads.done[:5])
    time.sleep(0.05)
    assert loads.asked == [0, 1, 2, 3, 4] and not loads.done[5].is_set()
    assert threading.current_thread().name not in loads.threads


def test_what_is_large_does_not_wait():
    loads = Loads(weight=HEAVIEST + 1)
    turns = loads.ahead(5)
    for item in range(4):
        assert next(turns) == (item, 10 * item)
        assert loads.asked == list(range(item + 1))
    assert [item for item, _ in Loads(weight=HEAVIEST // 2).ahead(5)] == list(range(20))


def test_a_frame_of_a_camera_is_handed_over_before_the_next_is_asked_for():
    loads = Loads()
    turns = loads.ahead(5, at_once=lambda item: True)
    for item in range(4):
        assert next(turns) == (item, 10 * item)
        assert loads.asked == list(range(item + 1))


def test_whoever_stops_asking_ends_it_and_waits_for_nothing():
    release, begun = threading.Event(), threading.Event()

    def work(item: int) -> int:
        if item == 1:
            begun.set()
            release.wait(10)
        done.append(item)
        return item

    done: list[int] = []
    items = iter(range(1000))
    turns = done_ahead(
        items, work, count=4, known=lambda item: None, weight=lambda item: 1, at_once=lambda item: False
    )
    next(turns)
    asked = threading.Thread(target=lambda: next(turns, None), daemon=True)
    asked.start()  # waits for 1, which has begun
    assert begun.wait(5)
    release.set()
    asked.join(5)
    turns.close()
    time.sleep(0.1)
    assert next(items) <= 7 and len(done) <= 7


def test_an_error_of_the_work_reaches_whoever_asks():
    def work(item: int) -> int:
        if item == 2:
            raise MemoryError("full")
        return item

    turns = done_ahead(
        range(5), work, count=2, known=lambda item: None, weight=lambda item: 1, at_once=lambda item: False
    )
    assert [next(turns), next(turns)] == [(0, 0), (1, 1)]
    with pytest.raises(MemoryError, match="full"):
        next(turns)

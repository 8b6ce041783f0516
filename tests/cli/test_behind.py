"""What is done behind the model: in order, all of it, and no error unsaid."""

from __future__ import annotations

import threading
import time

import pytest

from focus_detr.cli.behind import MOST, Behind


def test_everything_is_done_in_order_by_one_other_thread():
    done: list[tuple[int, str]] = []
    with Behind(lambda value: done.append((value, threading.current_thread().name))) as behind:
        for value in range(50):
            behind.add(value)
    assert [value for value, _ in done] == list(range(50))
    assert {name for _, name in done} == {"focus-detr-behind"}


def test_few_wait_and_whoever_adds_more_waits():
    go, added = threading.Event(), []

    def add_all() -> None:
        with Behind(lambda value: go.wait(10)) as behind:
            for value in range(20):
                behind.add(value)
                added.append(value)

    thread = threading.Thread(target=add_all, daemon=True)
    thread.start()
    time.sleep(0.2)
    assert len(added) <= MOST + 1
    go.set()
    thread.join(5)
    assert len(added) == 20


def test_interrupted_what_was_added_is_done_first():
    done: list[int] = []

    def slowly(value: int) -> None:
        time.sleep(0.02)
        done.append(value)

    with pytest.raises(KeyboardInterrupt), Behind(slowly) as behind:
        for value in range(4):
            behind.add(value)
        raise KeyboardInterrupt
    assert done == [0, 1, 2, 3]


def test_an_error_ends_it_and_is_raised_once_and_as_it_is():
    done: list[int] = []

    def work(value: int) -> None:
        if value == 1:
            raise OSError("disk full")
        done.append(value)

    with pytest.raises(OSError, match="disk full"), Behind(work) as behind:
        for value in range(100):
            behind.add(value)
            time.sleep(0.005)
    assert done == [0]
    with pytest.raises(OSError, match="disk full"), Behind(work) as behind:
        behind.add(1)
    with pytest.raises(KeyboardInterrupt), Behind(work) as behind:
        behind.add(1)
        raise KeyboardInterrupt  # goes before

"""A setting of a block is over when the block is, and is nobody else's."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from focus_detr.ops import dispatch, use_backend
from focus_detr.structures import rows
from focus_detr.structures.scoped import Scoped


def test_blocks_nest_and_end_with_an_error_too():
    setting = Scoped("setting", 0)
    with setting.to(1):
        with pytest.raises(KeyError), setting.to(2):
            assert setting.get() == 2
            raise KeyError
        assert setting.get() == 1
    assert setting.get() == 0


def test_blocks_that_overlap_leave_nothing_behind():
    setting = Scoped("setting", 0)
    first, second = setting.to(1), setting.to(2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert setting.get() == 2
    second.__exit__(None, None, None)
    assert setting.get() == 0


@pytest.mark.parametrize(
    ("enter", "current", "inside", "outside"),
    [
        (lambda: use_backend("gather"), dispatch._forced.get, "gather", None),
        (rows.sorted_by_top_k, rows._by_top_k.get, True, False),
    ],
)
def test_threads_whose_blocks_overlap_do_not_see_each_other(enter, current, inside, outside):
    turn = threading.Barrier(2, timeout=10)

    def first():
        with enter():
            turn.wait()  # the second has not entered
            turn.wait()  # it has
            assert current() == inside
        turn.wait()
        assert current() == outside
        turn.wait()

    def second():
        turn.wait()
        assert current() == outside
        with enter():
            turn.wait()
            turn.wait()  # the first has left
            assert current() == inside
        turn.wait()
        assert current() == outside

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(first), threads.submit(second)]:
            done.result()
    assert current() == outside


def test_a_thread_started_inside_a_block_gets_it_by_a_copy_of_the_context_only():
    setting = Scoped("setting", 0)
    with ThreadPoolExecutor(1) as threads, setting.to(1):
        assert threads.submit(setting.get).result() == 0
        assert threads.submit(contextvars.copy_context().run, setting.get).result() == 1


def test_tasks_made_inside_a_block_have_it_and_keep_it():
    setting = Scoped("setting", 0)

    async def look():
        await asyncio.sleep(0)
        return setting.get()

    async def main():
        with setting.to(1):
            task = asyncio.create_task(look())
        return await task, setting.get()

    assert asyncio.run(main()) == (1, 0)

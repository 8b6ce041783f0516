"""Timing: order of the runs, and the numbers made of them; never how long anything takes."""

import pytest

from focus_detr.benchmarking import timing
from focus_detr.benchmarking.timing import Timing, take_turns
from focus_detr.errors import FocusDetrError


def test_works_take_turns_and_warm_up_is_not_measured():
    done = []
    timings = take_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3, warmup=2)
    assert done == ["a", "b"] * 5
    assert [len(each.seconds) for each in timings.values()] == [3, 3]
    assert [len(each.cpu_seconds) for each in timings.values()] == [3, 3]


def test_what_is_left_under_way_is_waited_for_within_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def finish():
        now[0] += 5

    timings = take_turns({"a": lambda: None}, 2, warmup=1, finish=finish)
    assert timings["a"].seconds == (5, 5)


def test_pauses_are_before_runs_that_count_and_outside_their_time(monkeypatch):
    now, slept = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(timing.time, "sleep", sleep)
    timings = take_turns({"a": lambda: None, "b": lambda: None}, 2, warmup=3, pause=7)
    assert slept == [7] * 4
    assert timings["a"].seconds == (0, 0)


def test_median_best_and_p95_by_hand():
    few = Timing((3.0, 1.0, 9.0, 2.0), (4.0, 1.0, 2.0, 3.0))
    assert (few.median, few.best, few.p95, few.cpu_median) == (2.5, 1.0, 9.0, 2.5)
    many = Timing(tuple(float(second) for second in range(1, 101)), (1.0,))
    assert many.p95 == 95.0


@pytest.mark.parametrize("options", [{"runs": 0}, {"runs": 1, "warmup": -1}, {"runs": 1, "pause": -0.5}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(FocusDetrError, match="at least 1 run"):
        take_turns({"a": lambda: None}, **options)

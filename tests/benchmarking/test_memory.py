"""Peak memory: of a piece of work whose size is known, in a process of its own."""

import functools
import operator
import os

import pytest

from focus_detr.benchmarking.memory import peak_memory
from focus_detr.errors import FocusDetrError

MIB = 2**20


def test_the_peak_is_what_the_work_took_and_gave_back():
    # The work makes 96 MiB of letters and forgets them.
    measured = peak_memory(functools.partial, operator.mul, b"x", 96 * MIB)
    assert 90 < measured.growth < 140
    assert measured.peak == measured.prepared + measured.growth
    assert measured.device is None


def test_what_was_there_before_is_not_in_it():
    # The argument, 96 MiB, arrives before the work starts.
    measured = peak_memory(functools.partial, len, b"x" * (96 * MIB))
    assert measured.growth < 40 and measured.prepared > 96


def test_a_killed_process_is_explained():
    with pytest.raises(FocusDetrError, match="not enough"):
        peak_memory(functools.partial, os._exit, 9)


def test_errors_of_the_work_arrive_as_they_are():
    with pytest.raises(ZeroDivisionError):
        peak_memory(functools.partial, operator.truediv, 1, 0)

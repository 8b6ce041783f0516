"""Broken data sets are refused or read with problems: nothing else is raised, and nothing hangs.

`make fuzz MINUTES=30` looks longer, at other data sets each time.
"""

from __future__ import annotations

import time
from pathlib import Path

from helpers.fuzzing import fuzz, fuzz_round

ROUNDS = 60
"""The same ones on every machine, in some seconds."""


def test_broken_data_sets_are_read_or_refused() -> None:
    for seed, failure in fuzz(iter(range(ROUNDS)), lambda: True):
        assert failure is None, f"seed {seed}:\n{failure}"


def test_a_fault_is_reported_with_its_seed(tmp_path: Path, monkeypatch) -> None:
    from helpers import fuzzing

    def forgetful(*arguments: object, **options: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(fuzzing, "load_dataset", forgetful)
    failures = [fuzz_round(tmp_path / str(seed), seed) for seed in range(5)]
    assert any(failure and "KeyError" in failure for failure in failures)


def test_a_hang_is_a_failure(tmp_path: Path, monkeypatch) -> None:
    from helpers import fuzzing

    monkeypatch.setattr(fuzzing, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(fuzzing, "list_splits", lambda root: time.sleep(5))
    assert "HangError" in (fuzz_round(tmp_path, 0) or "")

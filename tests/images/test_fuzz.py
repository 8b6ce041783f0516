"""Broken pictures are read or refused; `make fuzz MINUTES=30` looks longer, at other pictures each time."""

from __future__ import annotations

import pytest

from helpers.fuzzing_pictures import picture_round

ROUNDS = 600
"""The same ones on every machine, in some seconds."""


def test_broken_pictures_are_read_or_refused() -> None:
    for seed in range(ROUNDS):
        failure = picture_round(seed)
        assert failure is None, f"seed {seed}:\n{failure}"


@pytest.mark.parametrize(("fault", "said"), [(KeyError("x"), "KeyError"), (MemoryError(), "MemoryError")])
def test_what_is_raised_otherwise_is_a_failure(fault, said, monkeypatch) -> None:
    def forgetful(*arguments: object, **options: object) -> None:
        raise fault

    monkeypatch.setattr("helpers.fuzzing_pictures.read_image", forgetful)
    assert said in (picture_round(0) or "")

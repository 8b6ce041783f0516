"""The calculator of what a run over very many pictures costs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "batch_cost.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("batch_cost", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["batch_cost"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["batch_cost"]


def test_cores_do_both_where_there_is_no_gpu(script) -> None:
    found = script.cost(script.Machine(10, 2.0, 0.1, 0.4), 7200, 1e5, 100, 10)
    assert found.rates["reading and model"] == 20
    assert (found.bottleneck, found.machine_hours, found.money) == ("reading and model", 0.1, 0.2)
    assert found.requests == 720


@pytest.mark.parametrize(
    ("machine", "bottleneck"),
    [
        ({"read_seconds": 0.01, "model_seconds": 0.005}, "model"),
        ({"read_seconds": 0.1, "model_seconds": 0.005}, "reading"),
        ({"read_seconds": 0.001, "model_seconds": 0.0001, "gigabits": 0.01}, "network"),
    ],
)
def test_the_slowest_part_says_how_long_it_takes(script, machine: dict, bottleneck: str) -> None:
    found = script.cost(script.Machine(cores=4, price=1.0, gpus=1, **machine), 1e6, 1e5, 100, 1)
    assert found.bottleneck == bottleneck
    assert found.rates[bottleneck] == min(found.rates.values())
    assert found.machine_hours == pytest.approx(1e6 / found.rates[bottleneck] / 3600, rel=0.1)


def test_the_committed_rates_can_be_read(script) -> None:
    rates = script.measured(SCRIPT.parent / "results" / "batch.csv")
    assert all(value > 0 for value in rates.values())

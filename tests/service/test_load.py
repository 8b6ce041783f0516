"""Load on loopback, shortened: the full run is `python benchmarks/service.py` (see docs/service.md)."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from helpers.fake_detector import picture
from helpers.services import BlockingModel, fake_predictor, file_of, live_service

CONTENTS = [file_of(picture(red=(4 + index, 4, 20, 12)), "JPEG") for index in range(4)]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("service")
    for name in ("service", "common"):
        sys.modules.pop(name, None)


def test_below_saturation_nothing_fails_and_memory_stays(load):
    with live_service() as live:
        client, memory = load.Client(live.port), load.Memory(os.getpid())
        most = load.closed_loop(client, CONTENTS, clients=4, seconds=1.0)
        half = load.offered(client, CONTENTS, 0.3 * most.rate, clients=16, seconds=2.5)
        memory.close()
        assert live.idle()
    assert set(most.statuses) == set(half.statuses) == {200}
    assert half.statuses[200] == len(list(load.arrivals(0.3 * most.rate, 2.5, 0)))
    assert half.percentile(50) <= half.percentile(99) < 1000
    assert len(memory.samples) >= 2


def test_above_saturation_what_is_refused_is_told_so_and_nothing_else_fails(load):
    model = BlockingModel()
    with live_service({"fake": fake_predictor(model)}, max_queue=4, timeout=20) as live:
        import threading

        model.hold()
        threading.Timer(0.8, model.go.set).start()
        found = load.offered(load.Client(live.port), CONTENTS, 60, clients=32, seconds=1.2)
        assert found.statuses[429] > 5 and set(found.statuses) == {200, 429}
        after = load.closed_loop(load.Client(live.port), CONTENTS, clients=2, seconds=0.3)
        assert set(after.statuses) == {200}


def test_the_slope_is_of_the_line_through_the_samples(load):
    memory = load.Memory(os.getpid())
    memory.close()
    memory.samples = [(0.0, 900.0)] + [(float(second), 100 + second / 120) for second in range(10, 70)]
    assert memory.slope(10) == pytest.approx(0.5)

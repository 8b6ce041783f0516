"""Runs on Ray: killed processes, lost machines and dead drivers leave every picture exactly one result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from focus_detr.batch.inputs import Listing
from focus_detr.batch.ledger import Ledger
from focus_detr.batch.places import Place
from focus_detr.batch.run import begun, finish
from focus_detr.batch.working import Done, Work
from focus_detr.errors import FocusDetrError
from helpers.batches import letters, paths, write_pictures

pytest.importorskip("ray.data")
pytest.importorskip("pyarrow")


def command(model: Path, inputs: Path, output: Path, *more: str) -> list[str]:
    arguments = ["batch", str(model), str(inputs), "--output", str(output), "--block-size", "4", "--json"]
    return [sys.executable, "-m", "focus_detr", *arguments, *more]


def parts(output: Path) -> int:
    return len(list((output / "parts").rglob("[0-9]*.parquet")))


def wait_for(happened: Callable[[], Any], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def on_ray(model: Path, inputs: Path, output: Path, **options: Any) -> list[Done]:
    from focus_detr.batch.cluster import run_on_ray

    work = Work(Place.of(output), str(model), batch_size=2, threshold=0.0)
    with begun(Listing([str(inputs)], 4), work, ["parquet"], {}) as started:
        done = list(run_on_ray(work, started.ledger, started.pending(), **options))
        finish(started.ledger, ["parquet"])
    return done


def processes_at_work(root: psutil.Process) -> list[psutil.Process]:
    """Those of Ray below a process that run a task now."""
    found = []
    for each in root.children(recursive=True):
        try:
            if each.cmdline()[:1] and each.cmdline()[0].startswith("ray::MapBatches"):
                found.append(each)
        except psutil.Error:
            continue
    return found


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from focus_detr.batch import cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FocusDetrError, match=r"pip install 'focus-detr\[batch\]'.*--local"):
        cluster.ray()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "127.0.0.1:99999"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str) -> None:
    from focus_detr.batch.cluster import _refuse_silence

    with pytest.raises(FocusDetrError, match="--address .*: no Ray cluster answers there"):
        _refuse_silence(address)


def test_an_error_of_a_process_is_told_in_its_own_words(tiny_model: Path, tmp_path: Path) -> None:
    from focus_detr.batch.cluster import _look_at

    work = Work(Place.of(tmp_path), str(tiny_model), budget=7)
    batch = {name: np.array([0]) for name in ("number", "first", "end")}
    (row,) = _look_at(batch, work, Ledger(work.output))
    assert row["error"][0].startswith("budget=7: must be a number")


@pytest.mark.slow
def test_more_cpus_than_there_are_are_refused_rather_than_waited_for(
    tiny_model: Path, tmp_path: Path, local_ray: None
) -> None:
    write_pictures(tmp_path / "in", 1)
    with pytest.raises(FocusDetrError, match="--cpus 999: this machine has"):
        on_ray(tiny_model, tmp_path / "in", tmp_path / "out", cpus=999, alone=True)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tiny_model: Path, tmp_path: Path, local_ray: None) -> None:
    names = write_pictures(tmp_path / "in", 60)
    Path(names[7]).write_bytes(b"junk")
    killed: list[int] = []
    niceness: set[int] = set()
    waiting: set[str | None] = set()

    def kill() -> None:
        wait_for(lambda: parts(tmp_path / "out") >= 2 and processes_at_work(psutil.Process()))
        for process in processes_at_work(psutil.Process()):
            niceness.add(process.nice())
            waiting.add(process.environ().get("OMP_WAIT_POLICY"))
            process.kill()
            killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    done = on_ray(tiny_model, tmp_path / "in", tmp_path / "out", cpus=1)
    killer.join()
    assert killed
    # Ray's own choice, 15 more, would leave them half of their share beside other work.
    assert niceness == {psutil.Process().nice()} and waiting == {"passive"}
    assert paths(tmp_path / "out") == [name for name in names if name != names[7]]
    assert letters(tmp_path / "out") == {names[7]: "undecodable"}
    assert set(Counter(each.block for each in done)) <= set(range(15))


@pytest.mark.slow
def test_a_driver_that_is_killed_is_started_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    names = write_pictures(tmp_path / "in", 240)
    asked = command(tiny_model, tmp_path / "in", tmp_path / "out", "--cpus", "1", "--workers", "1")
    driver = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: parts(tmp_path / "out") >= 2 or driver.poll() is not None)
    workers = processes_at_work(psutil.Process(driver.pid))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _, left = psutil.wait_procs(workers, timeout=60)  # they end by themselves, perhaps with a block more
    assert not left
    done = Ledger(Place.of(tmp_path / "out")).done()
    assert 2 <= len(done) < 60
    again = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert f"{len(done)} of 60 blocks are done" in again.stderr
    assert "WARNING" not in again.stderr
    assert paths(tmp_path / "out") == names
    assert not (tmp_path / "out/parts").exists()


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    second = cluster.add_node(num_cpus=1, **memory)
    yield cluster, second
    cluster.shutdown()


# In a process of its own: one is in one cluster at a time.
LOST_NODE = """
import sys
from pathlib import Path
from test_cluster import on_ray
from focus_detr.batch.cluster import connected
address, model, inputs, output = sys.argv[1:]
with connected(address):
    on_ray(Path(model), Path(inputs), Path(output), cpus=1)
"""


@pytest.mark.slow
def test_a_machine_that_is_lost_loses_nothing(
    tiny_model: Path, tmp_path: Path, two_nodes: tuple[Any, Any]
) -> None:
    cluster, second = two_nodes
    names = write_pictures(tmp_path / "in", 120)
    arguments: Sequence[str] = [cluster.address, *map(str, (tiny_model, tmp_path / "in", tmp_path / "out"))]
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    driver = subprocess.Popen([sys.executable, "-c", LOST_NODE, *arguments], env=environment)
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)

    def second_at_work() -> bool:
        assert driver.poll() is None
        return parts(tmp_path / "out") >= 2 and bool(processes_at_work(raylet))

    wait_for(second_at_work)
    done = parts(tmp_path / "out")
    cluster.remove_node(second, allow_graceful=False)
    assert done < 30
    assert driver.wait(200) == 0
    assert paths(tmp_path / "out") == names

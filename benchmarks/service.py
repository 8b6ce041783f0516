"""The service under load: time to an answer against the load offered, errors, throughput, memory over time.

    python benchmarks/service.py blood-cells examples/blood-cells --minutes 10

Starts `focus-detr serve` in a process of its own on this machine. First its throughput with clients that ask
as soon as they are answered is compared with that of the model alone, on batches prepared before, in turns.
Then requests are offered at shares of that throughput, at times drawn in advance: one that is late because
all clients wait counts from the time when it was due. Memory is the resident set of the service, each second.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import common
import numpy as np
import psutil
import torch
from PIL import Image

from focus_detr.benchmarking import limited_threads
from focus_detr.inference import Predictor

_STARTING = 180
_IDLE = 10
_MEBIBYTE = 2**20


@dataclass
class Answers:
    """What came back: seconds from when each was due, and how many of each status (0: no answer)."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    took: float = 0.0

    @property
    def rate(self) -> float:
        """Pictures answered a second."""
        return self.statuses[200] / self.took

    def percentile(self, share: float) -> float:
        """Milliseconds; of those that were answered."""
        return round(1000 * float(np.percentile(self.seconds, share)), 1) if self.seconds else float("nan")


class Client(threading.local):
    """A connection a thread, kept open."""

    def __init__(self, port: int, path: str = "/v1/detect") -> None:
        self.port, self.path = port, path
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.used = 0.0

    def ask(self, content: bytes) -> int:
        if time.monotonic() - self.used > _IDLE:
            self.connection.close()  # the service may close it at any moment
        try:
            self.connection.request("POST", self.path, content, {"Content-Type": "image/jpeg"})
            response = self.connection.getresponse()
            response.read()
            self.used = time.monotonic()
            return response.status
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return 0


def closed_loop(client: Client, contents: Sequence[bytes], clients: int, seconds: float) -> Answers:
    """``clients`` that ask again as soon as they are answered."""
    found, lock, started = Answers(), threading.Lock(), time.monotonic()

    def work(number: int) -> None:
        asked = number
        while time.monotonic() - started < seconds:
            begun = time.monotonic()
            status = client.ask(contents[asked % len(contents)])
            asked += clients
            with lock:
                found.statuses[status] += 1
                if status == 200:
                    found.seconds.append(time.monotonic() - begun)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    found.took = time.monotonic() - started
    return found


def offered(
    client: Client, contents: Sequence[bytes], rate: float, clients: int, seconds: float, seed: int = 0
) -> Answers:
    """Requests that are due at random, ``rate`` a second in the mean, sent by ``clients`` at most at once."""
    found, lock, started = Answers(), threading.Lock(), time.monotonic()

    def send(place: int, due: float) -> None:
        status = client.ask(contents[place % len(contents)])
        with lock:
            found.statuses[status] += 1
            if status == 200:
                found.seconds.append(time.monotonic() - started - due)

    with ThreadPoolExecutor(clients) as pool:
        for place, due in enumerate(arrivals(rate, seconds, seed)):
            time.sleep(max(0.0, due - (time.monotonic() - started)))
            pool.submit(send, place, due)
    found.took = time.monotonic() - started
    return found


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times of a Poisson process."""
    draw, due = random.Random(seed), 0.0
    while (due := due + draw.expovariate(rate)) < seconds:
        yield due


class Memory:
    """The resident set of a process and its children, in MiB, each second."""

    def __init__(self, number: int) -> None:
        self.samples: list[tuple[float, float]] = []
        self._process, self._ended = psutil.Process(number), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(1.0):
            processes = [self._process, *self._process.children(recursive=True)]
            held = sum(each.memory_info().rss for each in processes) / _MEBIBYTE
            self.samples.append((time.monotonic() - started, held))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def seconds(self) -> float:
        """Of the last sample."""
        return self.samples[-1][0] if self.samples else 0.0

    def slope(self, begin: float = 0.0) -> float:
        """MiB a minute, the least squares line from ``begin`` seconds on."""
        late = [each for each in self.samples if each[0] >= begin]
        if len(late) < 2:
            return float("nan")
        at, held = np.array(late).T
        return float(np.polyfit(at / 60, held, 1)[0])


class Alone:
    """The model alone, on prepared batches, as `focus-detr benchmark` runs it."""

    def __init__(self, model: str, files: Sequence[Path], batch: int, device: str) -> None:
        self.predictor = Predictor.from_pretrained(model, deploy=True, device=device)
        images = [Image.open(file).convert("RGB") for file in files]
        self.batch = self.predictor.prepare([images[place % len(images)] for place in range(batch)])

    def rate(self, seconds: float) -> float:
        """Pictures a second."""
        done, started = 0, time.monotonic()
        while time.monotonic() - started < seconds:
            self.predictor.run_prepared(*self.batch)
            if self.predictor.device.type == "cuda":
                torch.cuda.synchronize()
            done += len(self.batch[0])
        return done / (time.monotonic() - started)


@contextmanager
def served(model: str, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """`focus-detr serve` in a process of its own: its id and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "focus_detr", "serve", model, "--port", str(port), *options]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # as the container file and the unit set it
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + _STARTING
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {' '.join(command)}")
            time.sleep(0.2)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(60)


def _ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def run(options: argparse.Namespace) -> None:
    files = sorted(options.pictures.glob("*.jpg"))
    contents = [file.read_bytes() for file in files]
    alone = Alone(options.model, files, options.batch, options.device)
    asked = ["--threads", str(options.threads), "--max-batch", str(options.batch), "--device", options.device]
    seconds = 60 * options.minutes
    with served(options.model, asked) as (number, port):
        client, memory = Client(port), Memory(number)
        closed_loop(client, contents, options.clients, seconds / 20)  # warm
        # In turns: other work on the machine slows both.
        pairs = [
            (alone.rate(seconds / 60), closed_loop(client, contents, options.clients, seconds / 60))
            for _ in range(options.turns)
        ]
        ratio = float(np.median([each.rate / rate for rate, each in pairs]))
        capacity = float(np.median([each.rate for _, each in pairs]))
        rows = [
            {"case": "model alone", "offered": "", **_columns(None, float(np.median([r for r, _ in pairs])))},
            {
                "case": f"{options.clients} clients, each at once again",
                "offered": "",
                **_columns(pairs[-1][1], capacity),
            },
        ]
        left = seconds * (1 - 1 / 20 - 2 * options.turns / 60) / len(options.shares)
        for place, share in enumerate(options.shares):
            rate = share * capacity
            begun = time.monotonic()
            found = offered(client, contents, rate, options.most, left, seed=place)
            # A load fills what it needs in the first half.
            grown = memory.slope(memory.seconds() - (time.monotonic() - begun) / 2)
            row = {"case": f"{share:g} of it", "offered": round(rate, 2), **_columns(found, found.rate)}
            rows.append({**row, "memory_slope_mib_a_minute": round(grown, 3)})
        memory.close()
    summary = {
        "command": "python benchmarks/service.py " + " ".join(sys.argv[1:]),
        "throughput_of_model_alone": round(ratio, 3),
        "memory_mib": round(memory.samples[-1][1], 1) if memory.samples else None,
    }
    slope = "memory_slope_mib_a_minute"
    rows = [{**row, slope: row.get(slope, ""), **summary} for row in rows]
    common.write("service", rows, options.output)


def _columns(found: Answers | None, rate: float) -> dict[str, object]:
    if found is None:
        return {"answered": round(rate, 2), "p50_ms": "", "p99_ms": "", "refused": "", "errors": ""}
    refused = found.statuses[429]
    return {
        "answered": round(rate, 2),
        "p50_ms": found.percentile(50),
        "p99_ms": found.percentile(99),
        "refused": refused,
        # Statuses, and 0 where nothing came.
        "errors": " ".join(
            f"{count}x{status}"
            for status, count in sorted(found.statuses.items())
            if status not in (200, 429)
        )
        or "none",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("pictures", type=Path, help="folder of .jpg files")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the whole run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="pictures that the model takes together at most")
    parser.add_argument("--clients", type=int, default=4, help="of the closed loop")
    parser.add_argument("--most", type=int, default=32, help="clients of the offered load")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.75, 0.9, 1.2])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with limited_threads(given.threads):
        run(given)

"""Figures for Prometheus: of this application alone, or of all workers of the service together.

Several workers are prometheus_client's mode of several processes: where its environment variable names a
folder before it is imported, each keeps its figures in files there, and whoever is asked adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from focus_detr.service.answers import Found
    from focus_detr.service.state import ServiceState

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's environment variable."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BATCHES = (1, 2, 4, 8, 16, 32)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters and histograms, in a registry of their own: a process may hold several applications."""

    def __init__(self, state: ServiceState) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        folder = os.environ.get(SHARED_FOLDER)
        self._shared = None if folder is None else Path(folder)
        self._requests = Counter(
            "focus_detr_requests", "Requests answered.", ["method", "path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "focus_detr_request_seconds",
            "From a request's first byte to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "focus_detr_stage_seconds",
            "Of a picture: decode, wait, model.",
            ["model", "stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "focus_detr_batch_size",
            "Pictures that shared a picture's batch.",
            ["model"],
            buckets=_BATCHES,
            registry=registry,
        )
        self._objects = Counter(
            "focus_detr_detections", "Objects found.", ["model", "class"], registry=registry
        )
        self.timeouts = Counter("focus_detr_timeouts", "Requests not answered in time.", registry=registry)
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("in_flight", "Requests in work.", lambda: state.in_flight),
            ("queue_length", "Pictures that wait for a model.", lambda: state.engine.length),
            ("memory_bytes", "Held by bodies and pictures.", lambda: state.room.used),
            ("memory_limit_bytes", "That bodies and pictures may hold.", lambda: state.room.limit),
        )
        self._gauges = [
            (Gauge(f"focus_detr_{name}", words, registry=registry, multiprocess_mode="livesum"), value)
            for name, words, value in gauges
        ]
        self.look()
        if self._shared is None:
            ProcessCollector(registry=registry)

    def look(self) -> None:
        """Note how things stand: for another worker, which may be asked before this one is."""
        for gauge, value in self._gauges:
            gauge.set(value())

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request; ``path`` is its route, of which there are few."""
        known = method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        self._requests.labels(known, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def picture(self, model: str, decode: float, found: Found) -> None:
        """A picture that went through a model."""
        for stage, seconds in (("decode", decode), ("wait", found.waited), ("model", found.took)):
            self._stages.labels(model, stage).observe(seconds)
        self._batches.labels(model).observe(found.batch)
        for name, count in found.detections.counts().items():
            self._objects.labels(model, name).inc(count)

    def text(self) -> bytes:
        """All figures, of all workers where there are several."""
        self.look()
        if self._shared is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        together.register(_Processes(_living(self._shared)))
        MultiProcessCollector(together, str(self._shared))
        return generate_latest(together)


class _Processes:
    """As `ProcessCollector`, what can be added up of several."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = list(numbers)

    def collect(self) -> Iterable[Metric]:
        import psutil

        resident, seconds = 0.0, 0.0
        for number in self._numbers:
            try:
                process = psutil.Process(number)
                times = process.cpu_times()
                resident, seconds = resident + process.memory_info().rss, seconds + times.user + times.system
            except psutil.Error:
                continue  # it has ended since
        yield GaugeMetricFamily("process_resident_memory_bytes", "Of all workers.", resident)
        yield CounterMetricFamily("process_cpu_seconds_total", "Of all workers that live.", seconds)
        yield GaugeMetricFamily("focus_detr_workers", "Processes that answer.", len(self._numbers))


def _living(folder: Path) -> list[int]:
    """The processes that keep figures there; how things stood with those that have ended is forgotten."""
    import psutil

    numbers = {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_livesum_*.db")}
    for number in numbers:
        if not psutil.pid_exists(number):
            mark_process_dead(number, str(folder))
    return [number for number in numbers if psutil.pid_exists(number)]

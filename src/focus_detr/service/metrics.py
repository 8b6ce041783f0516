"""Figures for Prometheus, of this application alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from focus_detr.service.answers import Found
    from focus_detr.service.state import ServiceState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BATCHES = (1, 2, 4, 8, 16, 32)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters and histograms, in a registry of their own: a process may hold several applications."""

    def __init__(self, state: ServiceState) -> None:
        registry = CollectorRegistry()
        self.registry = registry
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
        for name, words, value in (
            ("in_flight", "Requests in work.", lambda: state.in_flight),
            ("queue_length", "Pictures that wait for a model.", lambda: state.engine.length),
            ("memory_bytes", "Held by bodies and pictures.", lambda: state.room.used),
            ("memory_limit_bytes", "That bodies and pictures may hold.", lambda: state.room.limit),
        ):
            Gauge(f"focus_detr_{name}", words, registry=registry).set_function(value)
        ProcessCollector(registry=registry)

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
        return generate_latest(self.registry)

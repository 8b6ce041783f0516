"""What is logged of the steps: means of the losses, last values, and the speed."""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor


class Means:
    """Losses averaged over the micro-batches since they were last logged; on the device, which nobody waits
    for meanwhile."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.lasts: dict[str, Tensor | float] = {}
        self.count = 0
        self.since: float | None = None

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def last(self, name: str, value: Tensor | float) -> None:
        self.lasts[name] = value

    def restart_clock(self) -> None:
        self.since = time.perf_counter()

    def collect(self, images: float) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Means, last values and speed, where a micro-batch is of so many images; starts anew."""
        if not self.count:
            return {}, {}, {}
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        lasts = {name: float(value) for name, value in self.lasts.items()}
        now, speed = time.perf_counter(), {}
        if self.since is not None:
            speed["images_per_second"] = round(self.count * images / (now - self.since), 3)
        self.sums, self.lasts, self.count, self.since = {}, {}, 0, now
        return means, lasts, speed

"""Counts of what `focus-detr predict` found, taken as results go by: thousands of them need not be kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from focus_detr.cli.output import note, say

if TYPE_CHECKING:
    from focus_detr.inference.writers import Result


class Summary:
    """Images and objects so far: `images`, and of them those `read`."""

    def __init__(self) -> None:
        self.images = self.read = 0
        self._objects: Counter[str] = Counter()
        self._seen_in: Counter[str] = Counter()
        self._budgets: Counter[float] = Counter()
        self._seconds: list[float] = []

    def add(self, result: Result) -> None:
        """Count an image's result."""
        from focus_detr.inference import Detections

        self.images += 1
        if isinstance(result, Detections):
            self.read += 1
            self._objects.update(result.counts())
            self._seen_in.update(result.counts().keys())
            if result.budget is not None:
                self._budgets[result.budget] += 1
            if result.latency is not None:
                self._seconds.append(result.latency)

    def print(self, output: Path | None) -> None:
        """The table by class."""
        from focus_detr.evaluation.tables import table

        rows = [(name, count, self._seen_in[name]) for name, count in self._objects.most_common()]
        say(table(("class", "objects", "images"), [*rows, ("all", self._objects.total(), self.read)]))
        if self.read < self.images:
            note(f"{self.images - self.read} of {self.images} images could not be read and were passed over.")
        if self._budgets:
            mean = sum(budget * count for budget, count in self._budgets.items()) / self._budgets.total()
            least, most = min(self._budgets), max(self._budgets)
            say(f"Budgets chosen: {mean:.2f} on average, from {least:g} to {most:g}.")
        if self._seconds:
            say(f"Time of a picture: {1e3 * median(self._seconds):.1f} ms, the median.")
        if output is not None:
            say(f"Written to {output}")

"""What a benchmark found: as text, CSV, JSON and picture."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from focus_detr.benchmarking.environment import flat
from focus_detr.folders import write_whole

File = str | os.PathLike[str]


@dataclass(frozen=True)
class Row:
    """One model at one size and budget; None is what was not measured or cannot be.

    Attributes:
        size: height x width of the images.
        median_ms, p95_ms, best_ms: of a forward pass of a batch; image reading and resizing are not in it.
        cpu_ms: median of what all threads together spent.
        images_per_second: batch size over the median.
        times_faster: than the first row, by the median for an image.
        memory_mib: what a first forward pass takes beyond the loaded model; peak_mib: the whole process.
        gmacs and its parts: billions of multiply-accumulates for one image, by the rule of `macs`.
        parameters_m: millions.
        tokens: of an image; kept: mean share of them that encoder layers work on.
        budget: in place of what the keep ratio says; None where none was given.
        decoder_layers: run, of those that the model has; None is all of them.
        AP, AP50: of this very model at this size and budget.
    """

    model: str
    keep_ratio: float | None
    size: str
    batch_size: int
    median_ms: float
    p95_ms: float
    best_ms: float
    cpu_ms: float
    images_per_second: float
    times_faster: float
    memory_mib: float | None = None
    peak_mib: float | None = None
    device_memory_mib: float | None = None
    gmacs: float | None = None
    backbone_gmacs: float | None = None
    neck_gmacs: float | None = None
    scoring_gmacs: float | None = None
    encoder_gmacs: float | None = None
    decoder_gmacs: float | None = None
    parameters_m: float | None = None
    tokens: int | None = None
    kept: float | None = None
    AP: float | None = None
    AP50: float | None = None
    budget: float | None = None
    decoder_layers: int | None = None


@dataclass(frozen=True)
class BenchmarkReport:
    """Rows in the order asked for, and the environment they belong to."""

    rows: list[Row]
    environment: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"rows": [asdict(row) for row in self.rows], "environment": self.environment}

    def table(self) -> str:
        """The rows as aligned text; columns that nothing was measured for are left out."""
        shown = [(name, header) for name, header in _SHOWN.items() if self._measured(name)]
        lines = [[header for _, header in shown]]
        lines += [[_text(getattr(row, name)) for name, _ in shown] for row in self.rows]
        return aligned(lines)

    def save_csv(self, file: File) -> None:
        """One line a row, the environment in its last columns."""
        write_csv(file, [asdict(row) for row in self.rows], self.environment)

    def save_plot(self, file: File) -> None:
        """AP against time, or tokens worked on where no AP was measured."""
        from focus_detr.benchmarking.plots import plot_against_time

        plot_against_time(self.rows, file)

    def _measured(self, name: str) -> bool:
        return any(getattr(row, name) is not None for row in self.rows)


_SHOWN = {
    "model": "model", "keep_ratio": "keep", "budget": "budget", "decoder_layers": "layers",
    "size": "size", "batch_size": "batch",
    "median_ms": "ms", "p95_ms": "p95", "images_per_second": "images/s", "times_faster": "times",
    "memory_mib": "MiB", "device_memory_mib": "GPU MiB", "gmacs": "GMACs", "backbone_gmacs": "backbone",
    "neck_gmacs": "neck", "scoring_gmacs": "scoring", "encoder_gmacs": "encoder", "decoder_gmacs": "decoder",
    "parameters_m": "params M", "kept": "tokens", "AP": "AP", "AP50": "AP50",
}  # fmt: skip


def write_csv(file: File, rows: Iterable[Mapping[str, Any]], environment: Mapping[str, Any]) -> None:
    """Rows of the same keys as CSV, with the environment repeated in each: a line says where it is from."""
    extra = flat(dict(environment))
    lines = [{**row, **extra} for row in rows]
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_whole(path, text.getvalue())


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first to the left, the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in text)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def rounded(row: Row) -> Row:
    """The row with as many digits as were measured."""
    values: dict[str, Any] = {
        name: round(value, 4) for name, value in asdict(row).items() if isinstance(value, float)
    }
    return replace(row, **values)

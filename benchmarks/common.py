"""What the benchmark scripts share: options, models with random weights, and where results go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.benchmarking import Timing, describe_environment, limited_threads
from focus_detr.benchmarking.plots import new_figure
from focus_detr.benchmarking.report import aligned, write_csv

RESULTS = Path(__file__).parent / "results"


def parser(description: str | None, *, threads: int = 2, runs: int = 5) -> argparse.ArgumentParser:
    """Options that every script has."""
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(description=description, formatter_class=raw)
    result.add_argument("--threads", type=int, default=threads)
    result.add_argument("--runs", type=int, default=runs, help="measured runs of each form, in turns")
    result.add_argument("--warmup", type=int, default=1)
    result.add_argument("--pause", type=float, default=0.0, help="seconds of rest before each run")
    result.add_argument("--output", type=Path, help="the CSV; its picture lies beside it")
    return result


def size(text: str) -> tuple[int, int]:
    """`800x1066` as height and width."""
    height, width = text.lower().split("x")
    return int(height), int(width)


def model_and_data(text: str) -> tuple[str, Path, str]:
    """MODEL=PATH:SPLIT, as an option says it."""
    name, _, place = text.partition("=")
    path, _, split = place.rpartition(":")
    return name, Path(path), split


def random_model(preset: str, **fields: Any) -> FocusDetrForObjectDetection:
    """The preset with the same random weights each time, for inference."""
    torch.manual_seed(0)
    return FocusDetrForObjectDetection(FocusDetrConfig.from_preset(preset, **fields)).eval()


def random_images(height: int, width: int, batch: int = 1) -> torch.Tensor:
    """(B,3,H,W), the same each time."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def timing_columns(timing: Timing, baseline: Timing) -> dict[str, float]:
    """Milliseconds, and how many times faster than the baseline: by the clock, and by what threads spent."""
    return {
        "median_ms": round(1e3 * timing.median, 2),
        "p95_ms": round(1e3 * timing.p95, 2),
        "best_ms": round(1e3 * timing.best, 2),
        "cpu_ms": round(1e3 * timing.cpu_median, 2),
        "times_faster": round(baseline.median / timing.median, 2),
        "cpu_times_faster": round(baseline.cpu_median / timing.cpu_median, 2),
    }


def write(name: str, rows: Sequence[Mapping[str, Any]], output: Path | None, device: str = "cpu") -> Path:
    """Write the rows beside one another with the environment, print them, and end with one line of JSON."""
    path = output or RESULTS / f"{name}.csv"
    environment = describe_environment()
    write_csv(path, rows, environment)
    columns = list(rows[0])
    print(aligned([columns, *([str(row[column]) for column in columns] for row in rows)]))
    print(json.dumps({"rows": rows, "environment": environment}))
    return path


def picture_of_times(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], title: str, file: Path
) -> None:
    """One bar a row, of the median by the clock, with how many times faster than its baseline it is."""
    figure, axes = new_figure(title, "milliseconds, median", "")
    bars = axes.barh(range(len(rows)), [row["median_ms"] for row in rows], color="#0072b2")
    axes.bar_label(bars, [f"{row['times_faster']:g}x" for row in rows], padding=4)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    figure.savefig(file, dpi=150, facecolor="white")


def main(run: Callable[[argparse.Namespace], object], options: argparse.Namespace) -> None:
    """Run a script with the threads asked for, and nothing else on its cores that it started itself."""
    with limited_threads(options.threads), torch.no_grad():
        run(options)

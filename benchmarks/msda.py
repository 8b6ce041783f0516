"""Deformable attention: every CPU form in one run, forward and forward + backward.

    python benchmarks/msda.py --threads 2 --rounds 4
    python benchmarks/msda.py --threads 1 --rounds 3 --output benchmarks/results/msda_1_thread.csv

The forms take turns, so that what else the machine does falls on all alike; a figure is the best of its
rounds, and the ratio to grid_sample is what to read. `cpu_ms` is the time of all threads together, `load` the
load average before and after: above the number of threads, the machine was not ours alone.

Queries are tokens in order with offsets of about two pixels, as in an encoder. `gathered GB/s` counts each
corner read as one row of memory, caches or not; the copy bandwidth beside it is what this machine moves (read
and write) in a plain tensor copy.
"""

import argparse
import csv
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from focus_detr.ops import describe_backends, multi_scale_deformable_attention, use_backend

SHAPES = [(100, 134), (50, 67), (25, 34), (13, 17)]  # an 800 x 1066 image
HEADS, WIDTH, POINTS = 8, 32, 4
FORMS = ("grid_sample", "reference", "cpu")


def inputs(queries: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value, locations and weights of one image, each wanting a gradient."""
    centres = [
        torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(-1)
        for h, w in SHAPES
    ]
    tokens = torch.cat(centres)
    chosen = tokens[torch.randperm(len(tokens))[:queries].sort().values]
    sizes = torch.tensor([(width, height) for height, width in SHAPES])
    offsets = torch.randn(1, queries, HEADS, len(SHAPES), POINTS, 2) * 2 / sizes[:, None]
    weights = torch.rand(1, queries, HEADS, len(SHAPES) * POINTS).softmax(-1)
    weights = weights.unflatten(-1, (len(SHAPES), POINTS))
    value = torch.randn(1, len(tokens), HEADS, WIDTH)
    locations = chosen[None, :, None, None, None] + offsets
    return value.requires_grad_(), locations.requires_grad_(), weights.requires_grad_()


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """What the clock shows, and what all threads together spent."""
    start, spent = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - start) * 1e3, (time.process_time() - spent) * 1e3


def measure(queries: int, rounds: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Best times of each form and pass, on the clock and of all threads."""
    value, locations, weights = inputs(queries)
    grad = torch.randn(1, queries, HEADS * WIDTH)

    def forward() -> torch.Tensor:
        return multi_scale_deformable_attention(value, SHAPES, locations, weights)

    def both() -> None:
        torch.autograd.grad(forward(), (value, locations, weights), grad)

    best: dict[tuple[str, str], tuple[float, float]] = {}
    for _ in range(rounds):
        for name in FORMS:
            with use_backend(name):
                with torch.no_grad():
                    took = {"forward": milliseconds(forward)}
                took["forward+backward"] = milliseconds(both)
            for kind, (clock, spent) in took.items():
                before = best.get((name, kind), (float("inf"), float("inf")))
                best[name, kind] = (min(clock, before[0]), min(spent, before[1]))
    return best


def copy_bandwidth(rounds: int) -> float:
    """GB/s read and written by a copy too large for any cache."""
    source = torch.ones(64 * 2**20)
    target = torch.empty_like(source)
    best = min(milliseconds(lambda: target.copy_(source))[0] for _ in range(rounds + 1))
    return 2 * source.numel() * 4 / best / 1e6


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, nargs="+", default=[17821, 5346, 300])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "msda.csv")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    native = next(backend for backend in describe_backends() if backend.name == "cpu")
    if not native.available:
        raise SystemExit(native.reason)

    copied = copy_bandwidth(options.rounds)
    rows = []
    for queries in options.queries:
        before = os.getloadavg()[0]
        best = measure(queries, options.rounds)
        load = f"{before:.1f} {os.getloadavg()[0]:.1f}"
        for (name, kind), (clock, spent) in best.items():
            read = queries * HEADS * len(SHAPES) * POINTS * 4 * WIDTH * 4
            rows.append({
                "queries": queries, "form": name, "pass": kind, "ms": round(clock, 2),
                "times_grid_sample": round(best["grid_sample", kind][0] / clock, 2),
                "cpu_ms": round(spent, 2),
                "cpu_times_grid_sample": round(best["grid_sample", kind][1] / spent, 2),
                "gathered_GB_per_s": round(read / clock / 1e6, 1) if kind == "forward" else "", "load": load,
                "copy_GB_per_s": round(copied, 1), "threads": options.threads,
                "cpu": f"{platform.machine()} {native.reason}", "torch": torch.__version__,
            })  # fmt: skip
            print({key: rows[-1][key] for key in list(rows[-1])[:9]}, flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    ratios = {f"{r['form']} {r['pass']} {r['queries']}": r["times_grid_sample"] for r in rows}
    summary = {"threads": options.threads, "copy_GB_per_s": round(copied, 1), "times_grid_sample": ratios}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

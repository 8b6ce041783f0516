"""All that only a GPU can show, in one run of a few minutes and one file of results.

    make gpu
    python benchmarks/gpu.py --dry-run          # the same code on a CPU, tiny, to see that it runs

Three parts, whose rows say what was computed by what:

- `kernel`: deformable attention by Triton against plain torch, forward and forward + backward, in three
  precisions, with its distance from float64 and the share of memory bandwidth it reaches;
- `forward`: a whole pass at 800x1333, straightforward, eager, deployed and as CUDA graphs, Focus-DETR and
  dense DINO, one image and sixteen; `times_faster` is against the straightforward form in float32 of the same
  model and batch;
- `training`: a step of sixteen images with losses and backward, float32 and bfloat16, its peak of memory and
  the times it makes the host wait.

What there was no time for is left out and said. Times are medians by CUDA events; those of kernels are the
GPU's alone, without what the host takes to launch them.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, random_images, random_model
from straightforward import Straightforward

from focus_detr.benchmarking import describe_environment
from focus_detr.benchmarking.report import write_csv
from focus_detr.deploy.deploy import deploy
from focus_detr.ops import multi_scale_deformable_attention, reference, use_backend

Row = dict[str, Any]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MODELS = {"focus": "focus-detr-r50", "dense": "dino-r50"}
LEVELS = [(100, 167), (50, 84), (25, 42), (13, 21)]  # an 800 x 1333 image
HEADS, WIDTH, POINTS = 8, 32, 4
OBJECTS = 10
_SLEEP_CYCLES = 10_000_000  # about 5 ms


def milliseconds(work: Callable[[], object], device: str, runs: int, *, queued: bool = False) -> float:
    """Median of ``runs`` after two more; by events where there is a GPU, and ``queued`` of its time alone."""
    taken = []
    for turn in range(-2, runs):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if queued:
                # While the GPU sleeps the host gets ahead: what is measured never waits for a launch.
                torch.cuda._sleep(_SLEEP_CYCLES)
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            took = start.elapsed_time(end)
        else:
            begin = time.perf_counter()
            work()
            took = 1e3 * (time.perf_counter() - begin)
        if turn >= 0:
            taken.append(took)
    return statistics.median(taken)


def row(part: str, case: str, form: str, dtype: str, ms: float, **more: Any) -> Row:
    """A line of the table; every part fills its own columns."""
    columns = {"times_faster": "", "error": "", "bandwidth_share": "", "peak_gib": "", "host_waits": ""}
    return {"part": part, "case": case, "form": form, "dtype": dtype, "ms": round(ms, 3), **columns, **more}


def kernels(device: str, dry: bool) -> Iterator[Row]:
    """Deformable attention of all tokens and of three in ten."""
    shapes = [(4, 5), (2, 3)] if dry else LEVELS
    tokens = sum(height * width for height, width in shapes)
    copied = bandwidth(device)
    for queries in (tokens, int(0.3 * tokens)):
        generator = torch.Generator().manual_seed(0)
        value = torch.randn(2, tokens, HEADS, WIDTH, generator=generator)
        places = torch.rand(2, queries, 1, 1, 1, 2, generator=generator)
        spread = 0.02 * torch.randn(2, queries, HEADS, len(shapes), POINTS, 2, generator=generator)
        weights = torch.rand(2, queries, HEADS, len(shapes) * POINTS, generator=generator).softmax(-1)
        weights = weights.unflatten(-1, (len(shapes), POINTS))
        inputs = [part.to(device) for part in (value, places + spread, weights)]
        truth = reference.grid_sample(inputs[0].double(), shapes, inputs[1].double(), inputs[2].double())
        for name, dtype in DTYPES.items():
            # Locations and weights stay float32, as in the models.
            typed = [inputs[0].to(dtype), *inputs[1:]]
            leaves = [part.detach().requires_grad_() for part in typed]
            seed = torch.randn(truth.shape, generator=generator).to(device, dtype)
            baseline: dict[str, float] = {}
            for form in ("grid_sample", "reference", *(["triton"] if device == "cuda" else [])):
                with use_backend(form):
                    error = (multi_scale_deformable_attention(typed[0], shapes, *typed[1:]) - truth).norm()
                    works = passes(typed, leaves, shapes, seed)
                    for kind, work in works.items():
                        with torch.no_grad() if kind == "forward" else nullcontext():
                            ms = milliseconds(work, device, 2 if dry else 20, queued=True)
                        baseline.setdefault(kind, ms)
                        # Inputs read once, the result written once: the least that a forward pass can move.
                        traffic = sum(part.nbytes for part in typed) + truth.numel() * typed[0].itemsize
                        share = traffic / ms / 1e6 / copied if kind == "forward" else ""
                        yield row(
                            "kernel", f"{queries} queries, {kind}", form, name, ms,
                            times_faster=round(baseline[kind] / ms, 2),
                            error=f"{float(error / truth.norm()):.1e}",
                            bandwidth_share=share and round(share, 3),
                        )  # fmt: skip


def passes(
    inputs: list[torch.Tensor], leaves: list[torch.Tensor], shapes: list[tuple[int, int]], seed: torch.Tensor
) -> dict[str, Callable[[], object]]:
    """The operator on ``inputs``, and with the gradients of ``leaves``."""

    def forward() -> torch.Tensor:
        return multi_scale_deformable_attention(inputs[0], shapes, *inputs[1:])

    def both() -> object:
        out = multi_scale_deformable_attention(leaves[0], shapes, *leaves[1:])
        return torch.autograd.grad(out, leaves, seed)

    return {"forward": forward, "forward+backward": both}


def bandwidth(device: str) -> float:
    """GB/s read and written by a large copy."""
    source = torch.ones(2**28 if device == "cuda" else 2**22, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source), device, 5) / 1e6


@torch.no_grad()
def forwards(device: str, dry: bool) -> Iterator[Row]:
    """Whole passes, the forms of one model and batch one after the other."""
    height, width = (64, 96) if dry else (800, 1333)
    for batch in (1, 2 if dry else 16):
        for name, preset in MODELS.items():
            model = random_model(preset, quirks="original").to(device)
            images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1)).to(
                device
            )
            case = f"{name}, {batch} x {height}x{width}"
            baseline = 0.0
            for form, dtype, build in forms(model, device, batch, dry):
                began = time.perf_counter()
                built = build()
                runs = 1 if dry else 10
                ms = milliseconds(partial(built, images), device, runs)
                baseline = baseline or ms
                print(f"    {case}: {form} {dtype} ({time.perf_counter() - began:.0f} s)", flush=True)
                yield row("forward", case, form, dtype, ms, times_faster=round(baseline / ms, 2))
                del built


def forms(
    model: Any, device: str, batch: int, dry: bool
) -> Iterator[tuple[str, str, Callable[[], Callable[[torch.Tensor], object]]]]:
    """What is measured of a model: a name, a precision, and how it is made."""
    yield "straightforward", "fp32", lambda: Straightforward(model)
    yield "eager", "fp32", lambda: model
    yield "deployed", "fp32", lambda: deploy(model)
    yield "deployed", "bf16", lambda: deploy(model, dtype="bfloat16")
    if not dry:
        yield "deployed", "fp16", lambda: deploy(model, dtype="float16")
    if device == "cuda":
        yield "CUDA graphs", "fp32", lambda: deploy(model, cuda_graphs=True)
        yield "CUDA graphs", "bf16", lambda: deploy(model, dtype="bfloat16", cuda_graphs=True)
        yield "CUDA graphs", "fp16", lambda: deploy(model, dtype="float16", cuda_graphs=True)


def trainings(device: str, dry: bool) -> Iterator[Row]:
    """Steps of a batch of one size: losses with denoising queries, backward, AdamW."""
    height, width = (64, 96) if dry else (800, 1066)
    batch = 2 if dry else 16
    images = random_images(height, width, batch).to(device)
    boxes = torch.rand(OBJECTS, 4, generator=torch.Generator().manual_seed(2)) * 0.3 + 0.2
    label = {"class_labels": torch.arange(OBJECTS), "boxes": boxes, "size": torch.tensor([height, width])}
    labels = [{key: part.to(device) for key, part in label.items()} for _ in range(batch)]
    for name, preset in MODELS.items():
        for dtype in ("fp32", "bf16"):
            model = random_model(preset).to(device).train()
            optimizer = torch.optim.AdamW(model.parameters(), 1e-6)
            autocast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16")

            def step(model: Any = model, optimizer: Any = optimizer, autocast: Any = autocast) -> None:
                with autocast:
                    loss = model(pixel_values=images, labels=labels).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

            case = f"{name}, {batch} x {height}x{width}"
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                ms = milliseconds(step, device, 1 if dry else 5)
            except torch.OutOfMemoryError:
                print(f"left out, for want of memory: {case}, {dtype}", flush=True)
                continue
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
            yield row(
                "training", case, "step", dtype, ms,
                peak_gib=round(peak, 2), host_waits=waits(step) if device == "cuda" else "",
            )  # fmt: skip


def waits(work: Callable[[], object]) -> int:
    """How many times the work makes the host wait for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU too")
    parser.add_argument("--seconds", type=float, default=330, help="no new measurement begins after these")
    parser.add_argument("--parts", default="kernels,trainings,forwards")
    parser.add_argument("--output", type=Path, help="the CSV; benchmarks/results/gpu.csv by default")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.dry_run:
        raise SystemExit("no GPU here: make gpu runs on a machine with one; --dry-run shows that it would")
    parts = {"kernels": kernels, "trainings": trainings, "forwards": forwards}
    environment = describe_environment(device)
    began, rows = time.perf_counter(), []
    for part in options.parts.split(","):
        for found in parts[part](device, options.dry_run):
            rows.append(found)
            print({key: value for key, value in found.items() if value != ""}, flush=True)
            if not options.dry_run or options.output is not None:
                # At once: a machine that is lent may be gone before the last row.
                write_csv(options.output or RESULTS / "gpu.csv", rows, environment)
            if time.perf_counter() - began > options.seconds:
                print(f"left out, for want of time: the rest of {part}", flush=True)
                break


if __name__ == "__main__":
    main()

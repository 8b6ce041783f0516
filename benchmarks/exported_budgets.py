"""Exported files whose budget is an input, against files that have it fixed, and against the model.

    python benchmarks/exported_budgets.py blood-cells BCCD --threads 1 --runs 9

`cpu_ms`: a forward pass of the file that takes budgets; `times_fixed`: how many times as long as one of the
file whose budget is fixed, in turns with it. `AP`: of the file at that budget on the test split, stretched to
the size; `eager_AP`: of the model at that budget and size. `--files FOLDER` keeps the files, and takes those
that are there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import main, parser, size, write

from focus_detr.benchmarking import take_turns
from focus_detr.evaluation import evaluate
from focus_detr.export import export
from focus_detr.inference import Predictor

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row for format in options.formats for row in of_format(format, folder, options)]
    write("exported_budgets", rows, options.output)


def of_format(format: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a budget."""
    free = Predictor.from_pretrained(written(format, "any", folder, options))
    eager = Predictor.from_pretrained(options.model, device="cpu")
    eager.processor.size = {"height": options.size[0], "width": options.size[1]}
    picture = torch.randn(1, 3, *options.size, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, *options.size, dtype=torch.long)
    rows = []
    for budget in options.budgets:
        fixed = Predictor.from_pretrained(written(format, budget, folder, options))
        works = {
            "free": lambda budget=budget: free.run_prepared(picture, mask, budget=budget),
            "fixed": lambda fixed=fixed: fixed.run_prepared(picture, mask),
        }
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
        ours, theirs = timings["free"].cpu_median, timings["fixed"].cpu_median
        row: dict[str, Any] = {
            "model": options.model,
            "format": format,
            "size": f"{options.size[0]}x{options.size[1]}",
            "budget": budget,
            "cpu_ms": round(1e3 * ours, 1),
            "fixed_cpu_ms": round(1e3 * theirs, 1),
            "times_fixed": round(ours / theirs, 2),
        }
        if options.data is not None:
            found = (
                evaluate(each, options.data, budget=budget, progress=False).metrics.summary["AP"]
                for each in (free, eager)
            )
            row |= dict(zip(("AP", "eager_AP"), (round(float(ap), 4) for ap in found), strict=True))
        print(row, flush=True)
        rows.append(row)
    return rows


def written(format: str, budget: float | str, folder: Path, options: argparse.Namespace) -> Path:
    """The file, which is made where it is not there."""
    path = folder / f"{format}-{budget}{SUFFIXES[format]}"
    if path.is_file():
        return path
    return export(options.model, path, format, image_size=options.size, batch_size=1, budget=budget)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=9)
    arguments.add_argument("model", nargs="?", default="blood-cells")
    arguments.add_argument("data", nargs="?", type=Path, help="labelled pictures; no AP without them")
    arguments.add_argument("--size", type=size, default=(320, 416))
    arguments.add_argument("--budgets", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    arguments.add_argument("--formats", nargs="+", default=list(SUFFIXES), choices=list(SUFFIXES))
    arguments.add_argument("--files", type=Path, help="folder of the files")
    main(run, arguments.parse_args())

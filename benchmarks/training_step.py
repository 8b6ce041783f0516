"""Images a second of training, and what a step's time goes to.

    git worktree add ../before c2515ca~1
    python benchmarks/training_step.py DATA --before ../before --threads 2

Whole runs first: `focus-detr train DATA`, a few steps of them, by this source tree and that of `--before`, in
turns; images a second as their own logs have it, behind the first row, which warms up. Then, of this tree,
one process: batches loaded and trained on as a run does, where each part's time is its own, without those
inside: loader (reading, augmenting, collating), forward, matcher, loss (all of it but the matcher), backward,
and optimiser (clipping and update).
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from common import main, parser, write
from training_parts import training_parts

from focus_detr.losses.matcher import HungarianMatcher

ROOT = Path(__file__).parents[1]


class Clock:
    """Seconds by part; a part's own are those in which no part inside it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts what is done in the block."""
        begun = time.perf_counter()
        self._inside.append(0.0)
        yield
        took = time.perf_counter() - begun
        self.seconds[name] += took - self._inside.pop()
        self._inside[-1] += took

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its calls counted."""

        def counted(*inputs: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*inputs, **options)

        return counted


def whole_run(source: Path, options: argparse.Namespace) -> float:
    """Images a second of a run of the command, as it logs them."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"max_steps={options.steps}", "log_steps=2", "workers=0", f"batch_size={options.batch}"]
        # The other tree may not know of what this one has under another name.
        arguments = ["train", str(options.data), "--model", options.preset, "--output", folder]
        for setting in [*settings, "backbone_weights=null", *options.set]:
            arguments += ["--set", setting]
        environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(options.threads)}
        ran = subprocess.run(
            [sys.executable, "-m", "focus_detr", *arguments, "--device", "cpu"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if ran.returncode:
            raise SystemExit(f"{source}: {ran.stderr[-2000:]}")
        (log,) = Path(folder).rglob("metrics.csv")
        rows = [row.get("images_per_second") for row in csv.DictReader(log.open())]
        return max(float(value) for value in rows[1:] if value)


def shares(options: argparse.Namespace) -> dict[str, float]:
    """Seconds a step of each part, the least of all steps."""
    samples, collate, model = training_parts(options.data, "train", options.preset, options.recipe)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    steps: list[dict[str, float]] = []
    for step in range(options.warmup + options.steps):
        clock = Clock()
        whole = HungarianMatcher.__call__
        HungarianMatcher.__call__ = clock.around("matcher", whole)  # type: ignore[method-assign]
        losses = type(model.host).losses, type(model.encoder).losses
        model.host.losses = clock.around("loss", losses[0].__get__(model.host))  # type: ignore[method-assign]
        model.encoder.losses = clock.around("loss", losses[1].__get__(model.encoder))  # type: ignore[method-assign]
        try:
            with clock.part("loader"):
                places = range(step * options.batch, (step + 1) * options.batch)
                batch = collate([samples[place % len(samples)] for place in places])
            with torch.enable_grad():
                with clock.part("forward"):
                    loss = model(**batch).loss
                with clock.part("backward"):
                    loss.backward()
            with clock.part("optimiser"):
                torch.nn.utils.clip_grad_norm_(trained, 0.1)
                optimizer.step()
                optimizer.zero_grad()
        finally:
            HungarianMatcher.__call__ = whole  # type: ignore[method-assign]
            del model.host.losses, model.encoder.losses
        if step >= options.warmup:
            steps.append(dict(clock.seconds))
    return {name: min(each.get(name, 0.0) for each in steps) for name in steps[0]}


def run(options: argparse.Namespace) -> None:
    """Whole runs in turns, then the parts of a step."""
    trees = {"before": options.before, "now": ROOT} if options.before else {"now": ROOT}
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.runs):
        for name, tree in trees.items():
            found[name].append(whole_run(tree.absolute() / "src", options))
            time.sleep(options.pause)
    parts = shares(options)
    total = sum(parts.values())
    facts = {"preset": options.preset, "batch": options.batch}
    rows: list[dict[str, Any]] = [
        {
            **facts, "form": f"train, {name}", "images_per_second": round(max(rates), 2),
            "median": round(statistics.median(rates), 2), "milliseconds": "", "share": "",
        }
        for name, rates in found.items()
    ]  # fmt: skip
    rows += [
        {
            **facts, "form": name, "images_per_second": "", "median": "",
            "milliseconds": round(1e3 * seconds, 1), "share": round(seconds / total, 3),
        }
        for name, seconds in parts.items()
    ]  # fmt: skip
    write("training_step", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, runs=3)
    arguments.add_argument("data")
    arguments.add_argument("--before", type=Path, help="another source tree, for whole runs")
    arguments.add_argument("--preset", default="focus-detr-lite0")
    arguments.add_argument("--recipe", default="small-data")
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    main(run, arguments.parse_args())

"""Images a second that data loading makes, against those that a training step of the small model takes.

    python benchmarks/data_loading.py DATA --split train --threads 1

Reading: decode, augment, resize, normalise and pad, by the recipe of the preset, in this one process.
Training: forward, loss, backward and optimiser step of the same batches. The share is of processor time: what
one loader beside each trainer costs. Both take turns, batch by batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from common import main, parser, write
from training_parts import training_parts

from focus_detr.benchmarking import take_turns


def run(options: argparse.Namespace) -> None:
    samples, collate, model = training_parts(options.data, options.split, options.preset, options.recipe)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-5)
    place = 0
    batch: dict[str, Any] = {}

    def read() -> None:
        nonlocal place, batch
        batch = collate([samples[(place + offset) % len(samples)] for offset in range(options.batch)])
        place += options.batch

    @torch.enable_grad()
    def train() -> None:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    works = {"read": read, "train": train}
    timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    rows = [
        {
            "work": name, "preset": options.preset, "recipe": options.recipe, "batch": options.batch,
            "images_per_second": round(options.batch / timing.median, 2),
            "images_per_cpu_second": round(options.batch / timing.cpu_median, 2),
            "cpu_share_of_training": round(timing.cpu_median / timings["train"].cpu_median, 4),
        }
        for name, timing in timings.items()
    ]  # fmt: skip
    write("data_loading", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=20)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--split", default="train")
    arguments.add_argument("--preset", default="focus-detr-lite0")
    arguments.add_argument("--recipe", default="blood-cells")
    arguments.add_argument("--batch", type=int, default=4)
    main(run, arguments.parse_args())

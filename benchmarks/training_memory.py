"""Peak memory of one training step: the straightforward form against ours, plain and with checkpointing.

    python benchmarks/training_memory.py --threads 2

Forward, losses with denoising queries, and backward, for a batch of images of one size with ten objects each,
in float32. Each form runs in a process of its own, once; `growth` is what the step takes beyond weights and
images, gradients included. Gradient checkpointing computes the backbone and the layers of encoder and decoder
again in the backward pass. Target: at most half of the straightforward form's growth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import main, parser, random_images, random_model, size, write
from straightforward import Straightforward

from focus_detr.benchmarking import peak_memory

FORMS = ("straightforward", "ours", "ours, checkpointing")
OBJECTS = 10
TARGET = 0.5


def run(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    for form in FORMS:
        memory = peak_memory(step, options.preset, form, options.size, options.batch, options.threads)
        baseline = rows[0]["growth_gib"] if rows else memory.growth / 1024
        share = memory.growth / 1024 / baseline
        rows.append({
            "preset": options.preset, "form": form, "size": f"{options.size[0]}x{options.size[1]}",
            "batch": options.batch, "growth_gib": round(memory.growth / 1024, 3),
            "peak_gib": round(memory.peak / 1024, 3), "share": round(share, 3),
            "target": "" if form == FORMS[0] else TARGET,
            "met": "" if form == FORMS[0] else "yes" if share <= TARGET else "no",
        })  # fmt: skip
        print(rows[-1], flush=True)
    write("training_memory", rows, options.output)


def step(preset: str, form: str, canvas: tuple[int, int], batch: int, threads: int) -> Callable[[], object]:
    """Loss and gradients of one batch."""
    torch.set_num_threads(threads)
    model = random_model(preset, quirks="original").train()
    if form == "ours, checkpointing":
        model.activation_checkpointing_enable()
    ready = Straightforward(model) if form == "straightforward" else model
    images = random_images(*canvas, batch)
    boxes = torch.rand(OBJECTS, 4, generator=torch.Generator().manual_seed(2)) * 0.3 + 0.2
    label = {
        "class_labels": torch.arange(OBJECTS),
        "boxes": boxes,
        "size": torch.tensor(canvas),
    }
    return lambda: ready(pixel_values=images, labels=[label] * batch)["loss"].backward()


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--preset", default="focus-detr-r50")
    arguments.add_argument("--size", type=size, default=(800, 1066))
    arguments.add_argument("--batch", type=int, default=1)
    main(run, arguments.parse_args())

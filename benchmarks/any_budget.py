"""What a step of training for any budget costs, against a plain one.

    python benchmarks/any_budget.py --preset focus-detr-lite0 --size 320x427 --batch 4 --threads 1

Forward, losses and gradients of the same batch of random pictures, taking turns. Plain is the task
`detection`, over the share of tokens that the preset keeps; `all tokens` is the same at a budget of 1, which
`any-budget` computes in every step and to which its sparse passes come. The share of a sparse pass is random,
so the more runs, the nearer to its mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import main, parser, random_images, random_model, size, timing_columns, write

from focus_detr.benchmarking import take_turns
from focus_detr.training.tasks import Step, build_task

OBJECTS = 10
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("detection", {}),
    "all tokens": ("any-budget", {"passes": 0}),
    "any budget": ("any-budget", {}),
    "any budget, two passes": ("any-budget", {"passes": 2}),
}
TARGET = 1.6


def run(options: argparse.Namespace) -> None:
    works = {name: step(options.preset, name, options.size, options.batch, options.device) for name in TASKS}
    finish = torch.cuda.synchronize if options.device == "cuda" else None
    timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause, finish=finish)
    canvas = f"{options.size[0]}x{options.size[1]}"
    rows = []
    for name, timing in timings.items():
        place = {"preset": options.preset, "size": canvas, "batch": options.batch, "device": options.device}
        cost = timing.cpu_median if options.device == "cpu" else timing.median
        plain = timings["plain"].cpu_median if options.device == "cpu" else timings["plain"].median
        columns = timing_columns(timing, timings["plain"])
        rows.append({**place, "task": name, **columns, "times_plain": round(cost / plain, 2)})
    write("any_budget", rows, options.output)


def step(
    preset: str, name: str, canvas: tuple[int, int], batch: int, device: str
) -> Callable[[], dict[str, float]]:
    """Loss and gradients of one batch; gives the loss's parts."""
    model = random_model(preset).to(device).train()
    task, task_options = TASKS[name]
    ready = build_task(task, task_options, model, torch.device(device))
    images = random_images(*canvas, batch).to(device)
    boxes = torch.rand(OBJECTS, 4, generator=torch.Generator().manual_seed(2)) * 0.3 + 0.2
    label = {"class_labels": torch.arange(OBJECTS), "boxes": boxes, "size": torch.tensor(canvas)}
    labels = [{key: value.to(device) for key, value in label.items()}] * batch
    generator = torch.Generator().manual_seed(3)

    @torch.enable_grad()
    def work() -> dict[str, float]:
        model.zero_grad(set_to_none=True)
        given = {"pixel_values": images, "pixel_mask": torch.ones_like(images[:, 0]), "labels": labels}
        loss, parts = ready(model, given, Step(0, 1, generator))
        loss.backward()
        return {part: float(value.detach()) for part, value in parts.items()}

    return work


if __name__ == "__main__":
    arguments = parser(__doc__, runs=9)
    arguments.add_argument("--preset", default="focus-detr-lite0")
    arguments.add_argument("--size", type=size, default=(320, 427))
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--device", default="cpu")
    main(run, arguments.parse_args())

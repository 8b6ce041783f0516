"""Peak memory of one 3840x2160 image at its own resolution.

    python benchmarks/memory_4k.py --threads 2

Each form runs in a process of its own, once. `growth` is what the pass takes beyond the loaded model, `peak`
the whole process with torch and weights in it. Target: a peak of at most 12 GiB.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from common import main, parser, random_images, random_model, size, write

from focus_detr.benchmarking import peak_memory
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError

TARGET_GIB = 12
PRESETS = ("focus-detr-lite0", "focus-detr-r50")
FORMS = ("eager", "deployed")


def run(options: argparse.Namespace) -> None:
    rows = []
    for preset in options.presets.split(","):
        for form in options.forms.split(","):
            begun = time.perf_counter()
            try:
                memory = peak_memory(forward, preset, form, options.size, options.threads)
                growth, peak = memory.growth / 1024, memory.peak / 1024
            except FocusDetrError as error:
                print(f"{preset} {form}: {error}")
                growth = peak = float("inf")
            rows.append({
                "preset": preset, "form": form, "size": f"{options.size[0]}x{options.size[1]}",
                "growth_gib": round(growth, 2), "peak_gib": round(peak, 2), "target_gib": TARGET_GIB,
                "met": "yes" if peak <= TARGET_GIB else "no",
                "seconds_with_start": round(time.perf_counter() - begun),
            })  # fmt: skip
            print(rows[-1], flush=True)
    write("memory_4k", rows, options.output)


def forward(preset: str, form: str, canvas: tuple[int, int], threads: int) -> Callable[[], object]:
    """A pass of the form for one image."""
    torch.set_num_threads(threads)
    model = random_model(preset)
    ready = deploy(model) if form == "deployed" else model
    images = random_images(*canvas)

    @torch.inference_mode()
    def work() -> object:
        return ready(images)

    return work


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=size, default=(2160, 3840))
    arguments.add_argument("--presets", default=",".join(PRESETS))
    arguments.add_argument("--forms", default=",".join(FORMS))
    main(run, arguments.parse_args())

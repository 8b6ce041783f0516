"""Time of the encoder against the tokens it keeps, and against the size of the image.

    python benchmarks/encoder_scaling.py --threads 2

Scoring, selection and the six layers of focus-detr-r50 and of its dense sibling dino-r50, on random tokens of
one image: backbone and decoder are not in it. First keep ratios 0.1 to 1 at 800x1066, then sizes 400 to 2000
pixels at the paper's keep ratio of 0.5 (mean over the layers: 0.3). All cases take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import main, parser, random_model, write

from focus_detr import FocusDetrForObjectDetection
from focus_detr.benchmarking import take_turns
from focus_detr.benchmarking.plots import new_figure
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.tokens import Tokens

KEEP_RATIOS = tuple(place / 10 for place in range(1, 11))
SIZES = (400, 800, 1200, 1600, 2000)
CANVAS = (800, 1066)
PAPER = 0.5


def run(options: argparse.Namespace) -> None:
    focus, dense = random_model("focus-detr-r50"), random_model("dino-r50")
    works: dict[tuple[str, str, float], Callable[[], object]] = {}
    tokens: dict[tuple[str, str, float], tuple[int, float]] = {}
    cases = [(CANVAS, ratio) for ratio in KEEP_RATIOS] + [((side, side), PAPER) for side in options.sides]
    for canvas, ratio in cases:
        size = f"{canvas[0]}x{canvas[1]}"
        works["focus", size, ratio], tokens["focus", size, ratio] = encoder(focus, canvas, ratio)
        works["dense", size, 1.0], tokens["dense", size, 1.0] = encoder(dense, canvas, 1.0)
    named = {repr(case): work for case, work in works.items()}
    timings = take_turns(named, options.runs, warmup=options.warmup, pause=options.pause)
    rows = []
    for case in works:
        model, size, ratio = case
        timing, other = timings[repr(case)], timings[repr(("dense", size, 1.0))]
        number, kept = tokens[case]
        rows.append({
            "model": model, "size": size, "keep_ratio": ratio, "tokens": number,
            "tokens_per_layer": round(kept), "median_ms": round(1e3 * timing.median, 1),
            "best_ms": round(1e3 * timing.best, 1), "cpu_ms": round(1e3 * timing.cpu_median, 1),
            "cpu_share_of_dense": round(timing.cpu_median / other.cpu_median, 3),
        })  # fmt: skip
    path = write("encoder_scaling", rows, options.output)
    plot(rows, path.with_suffix(".png"))


def encoder(
    model: FocusDetrForObjectDetection, canvas: tuple[int, int], keep_ratio: float
) -> tuple[Callable[[], object], tuple[int, float]]:
    """Its work on random tokens of an image of ``canvas``; tokens, and those a layer works on, on average."""
    shapes = [(-(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in model.strides]
    geometry = Geometry.unpadded(shapes, 1, torch.device("cpu"))
    content = torch.randn(1, geometry.num_tokens, model.config.d_model)
    tokens = Tokens(content, model.encode_positions(geometry, content), geometry)

    def select() -> None:
        if model.encoder.has_keep_ratio:
            model.encoder.change_options(keep_ratio=keep_ratio)

    def work() -> Any:
        select()
        plan = model.encoder.plan(tokens)
        return model.encoder(tokens, plan)

    select()
    plan = model.encoder.plan(tokens)
    counts = plan.counts if plan is not None else (geometry.num_tokens,)
    return work, (geometry.num_tokens, sum(counts) / len(counts))


def plot(rows: list[dict[str, Any]], file: Any) -> None:
    """Time of all threads against tokens a layer: budgets of one image, and sizes at one budget."""
    figure, axes = new_figure("Encoder", "tokens a layer works on, mean", "seconds of processor time")
    size = f"{CANVAS[0]}x{CANVAS[1]}"
    for label, chosen in {
        f"focus, keep ratio 0.1 to 1 at {size}": [
            r for r in rows if r["model"] == "focus" and r["size"] == size
        ],
        "focus, 400 to 2000 pixels at keep ratio 0.5": [
            r for r in rows if r["model"] == "focus" and r["size"] != size
        ],
        "dense, 400 to 2000 pixels": [r for r in rows if r["model"] == "dense" and r["size"] != size],
    }.items():
        points = sorted((r["tokens_per_layer"], r["cpu_ms"] / 1e3) for r in chosen)
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", label=label)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150, facecolor="white")


if __name__ == "__main__":
    arguments = parser(__doc__, runs=3)
    arguments.add_argument("--sides", type=int, nargs="+", default=SIZES, help="sides of square images")
    main(run, arguments.parse_args())

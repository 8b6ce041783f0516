"""Steady selection: whether the last frame's scores keep tokens and boxes of a video from flickering.

    python benchmarks/steady.py
    python benchmarks/steady.py --model everyday --video CLIP.mp4 CLIP.mp4

A token is ranked by its foreground score of this frame and of those before, which count for `share` of it, as
`focus-detr predict --steady` does.
Without a video, the bundled model looks at its example pictures with the noise of a sensor, standing still
and moving by three pixels a frame. Flicker of tokens is the share of those that the first layer works on in
one of two frames that follow each other, but not in both; of boxes, the share of detections without a
partner of their class (IoU 0.5) in the other, the known movement taken out; `moved` is 1 - IoU of those
with one. `milliseconds` is the median of a frame.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import main, parser, write
from PIL import Image
from scipy.optimize import linear_sum_assignment

from focus_detr import Predictor
from focus_detr.evaluation.matching import overlaps
from focus_detr.inference.sources.files import expand_sources
from focus_detr.inference.steadying import Steadying
from focus_detr.structures.frame import Frame

EXAMPLES = sorted((Path(__file__).parent.parent / "examples" / "blood-cells").glob("*.jpg"))
SHARES = (0.0, 0.3, 0.5, 0.7)
NOISE = 6.0


def run(options: argparse.Namespace) -> None:
    predictor = Predictor.from_pretrained(options.model, device="cpu")
    if options.video is not None:
        scenes = {path.stem: [(path, 0)] for path in options.video}
    else:
        scenes = {"still": [(path, 0) for path in EXAMPLES], "pan": [(path, 3) for path in EXAMPLES]}
    rows = []
    for name, clips in scenes.items():
        for share in SHARES:
            rows.append({"scene": name, "budget": options.budget, "share": share})
            rows[-1] |= flicker(predictor, clips, share, options)
    write("steady" if options.video is None else "steady_clips", rows, options.output)


def flicker(
    predictor: Predictor, clips: list[tuple[Path, int]], share: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Of all clips together; each is a file, and the pixels that it moves by from frame to frame."""
    tokens: list[float] = []
    lone = boxes = looked = 0
    moved: list[float] = []
    seconds: list[float] = []
    for path, step in clips:
        kept, found = [], []
        steadying = Steadying(share) if share else None
        for index, image in enumerate(frames(path, step, options.frames)):
            begun = time.perf_counter()
            ranking = steadying.of([Frame(path.name, index, 0.0)]) if steadying else None
            outputs = predictor.run([image], options.budget, ranking=ranking)
            seconds.append(time.perf_counter() - begun)
            indices, valid = outputs.plan.kept(0)
            kept.append(set(indices[0][valid[0]].tolist()))
            found.append(predictor.decode(outputs, [image], threshold=options.threshold)[0])
        looked += len(found)
        tokens += [1 - len(a & b) / len(a | b) for a, b in zip(kept, kept[1:], strict=False)]
        for before, after in zip(found, found[1:], strict=False):
            here = before.boxes_xyxy.astype(float) - [step, 0, step, 0]
            same = before.labels[:, None] == after.labels[None]
            overlap = overlaps(here, after.boxes_xyxy.astype(float)) * same
            shared = overlap[linear_sum_assignment(-overlap)]
            moved += (1 - shared[shared >= 0.5]).tolist()
            boxes += len(before) + len(after)
            lone += len(before) + len(after) - 2 * int((shared >= 0.5).sum())
    return {
        "frames": looked,
        "tokens_flicker": round(float(np.mean(tokens)), 3),
        "boxes": boxes,
        "boxes_alone": lone,
        "boxes_flicker": round(lone / max(boxes, 1), 4),
        "moved": round(float(np.mean(moved)), 4) if moved else 0.0,
        "milliseconds": round(1e3 * float(np.median(seconds)), 1),
    }


def frames(path: Path, step: int, count: int) -> Iterator[Image.Image]:
    """The first ones of a video; of a picture, so many that move over it, each with noise of its own."""
    if path.suffix != ".jpg":
        for item, _ in zip(expand_sources(str(path)), range(count), strict=False):
            yield item.load()  # type: ignore[union-attr,misc]
        return
    image, noise = Image.open(path).convert("RGB"), np.random.default_rng(0)
    wide = image.resize((image.width + step * count, image.height + step * count))
    for index in range(count):
        window = wide.crop((step * index, 0, step * index + image.width, image.height))
        noisy = np.asarray(window, dtype=np.float32) + noise.normal(0, NOISE, (*window.size[::-1], 3))
        yield Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("--model", default="blood-cells")
    arguments.add_argument("--video", type=Path, nargs="+")
    arguments.add_argument("--budget", type=float, default=0.1)
    arguments.add_argument("--threshold", type=float, default=None)
    arguments.add_argument("--frames", type=int, default=60)
    main(run, arguments.parse_args())

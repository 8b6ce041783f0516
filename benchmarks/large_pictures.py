"""Time, memory and pixels of a very large JPEG picture, read whole and read for a model.

    python benchmarks/large_pictures.py

A picture of photographs' statistics (noise that falls off with frequency) is written as JPEG, then read in a
process of its own each way, and resized. `difference` is in grey levels, between the two of that picture.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import main, parser, size, write
from PIL import Image

READ = """
import re, sys, time
import numpy as np
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.images.reading import read_image
from focus_detr.images.reduced import read_for

def highest():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

way, path, edge, pixels = sys.argv[1:]
processor = FocusDetrImageProcessor(size={"shortest_edge": int(edge) // 2, "longest_edge": int(edge)})
before, begun, busy = highest(), time.perf_counter(), time.process_time()
image = read_image(path) if way == "whole" else read_for(path, processor.size_of).image
height, width = processor.size_of(image.height, image.width)
resized = image if image.size == (width, height) else image.resize((width, height), 2)
print(time.perf_counter() - begun, time.process_time() - busy, highest() - before)
np.save(pixels, np.asarray(resized))
"""


def run(options: argparse.Namespace) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("baseline", "progressive"):
            path = Path(folder) / f"{kind}.jpg"
            picture(*options.size).save(path, quality=90, progressive=kind == "progressive")
            pixels = {way: Path(folder) / f"{way}.npy" for way in ("whole", "reduced")}
            for way, file in pixels.items():
                done = subprocess.run(
                    [sys.executable, "-c", READ, way, path, str(options.edge), file],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                seconds, busy, memory = map(float, done.stdout.split())
                rows.append({
                    "jpeg": kind, "size": f"{options.size[0]}x{options.size[1]}", "read": way,
                    "longest_edge": options.edge, "seconds": round(seconds, 2),
                    "processor_seconds": round(busy, 2), "growth_mb": round(memory),
                    "mean_difference": 0.0, "largest_difference": 0,
                })  # fmt: skip
            gap = np.abs(np.load(pixels["whole"]).astype(int) - np.load(pixels["reduced"]))
            rows[-1] |= {"mean_difference": round(gap.mean(), 2), "largest_difference": int(gap.max())}
    write("large_pictures", rows, options.output)


def picture(height: int, width: int) -> Image.Image:
    """Sums of noise of all scales, each twice as strong as the next finer one."""
    chance = np.random.default_rng(0)
    page = Image.new("RGB", (width, height))
    tile = np.zeros((1024, 1024, 3), np.float32)
    for side in (4, 16, 64, 256, 1024):
        noise = chance.normal(0, 120 / np.sqrt(side), (side, side, 3)).clip(-128, 127) + 128
        grown = Image.fromarray(noise.astype(np.uint8)).resize((1024, 1024), Image.Resampling.BICUBIC)
        tile += np.asarray(grown, np.float32) - 128
    patch = Image.fromarray((tile + 128).clip(0, 255).astype(np.uint8))
    for number, left in enumerate(range(0, width, 1024)):
        for top in range(0, height, 1024):
            page.paste(patch.rotate(90 * ((number + top // 1024) % 4)), (left, top))
    return page


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=size, default=(10_000, 20_000))
    arguments.add_argument("--edge", type=int, default=640, help="longest edge that the model sees")
    main(run, arguments.parse_args())

"""Tiles: time and memory of a very large picture, and what they find that one look does not.

    python benchmarks/tiles.py
    python benchmarks/tiles.py --data BCCD

Without data, `focus-detr predict blood-cells` looks at a picture of 20,000x10,000 pixels, made of the example
pictures, in a process of its own each time, whose highest memory is measured. With data, its test pictures
are laid together two by two, and scored: one by one, and as these mosaics in one look and in tiles.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import main, parser, size, write
from PIL import Image

from focus_detr import FocusDetr
from focus_detr.data import load_dataset
from focus_detr.evaluation import evaluate

EXAMPLES = Path(__file__).parent.parent / "examples" / "blood-cells"


def run(options: argparse.Namespace) -> None:
    if options.data is None:
        write("tiles", very_large(options), options.output)
    else:
        write("tiles_mosaics", mosaics(options), options.output)


def very_large(options: argparse.Namespace) -> list[dict[str, Any]]:
    height, width = options.size
    cells = [Image.open(path) for path in sorted(EXAMPLES.glob("*.jpg"))]
    page = Image.new("RGB", (width, height))
    for row, top in enumerate(range(0, height, cells[0].height)):
        for column, left in enumerate(range(0, width, cells[0].width)):
            page.paste(cells[(row + column) % len(cells)], (left, top))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for ending, drawn in (("jpg", False), ("png", False), ("tif", False), ("jpg", True)):
            path = Path(folder) / f"large.{ending}"
            page.save(path, quality=90, compress_level=1)
            begun = time.perf_counter()
            report = predicted(path, Path(folder) / "out", drawn, options)
            rows.append({
                "picture": f"{width}x{height} {ending}", "tile": options.tile, "drawn": drawn,
                "seconds": round(time.perf_counter() - begun), **report,
            })  # fmt: skip
            path.unlink()
    return rows


def predicted(path: Path, output: Path, drawn: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Objects found, and the highest memory of the process."""
    command = [
        sys.executable, "-m", "focus_detr", "predict", "blood-cells", str(path), "--tile", str(options.tile),
        "--batch-size", str(options.batch_size), "--json", "--device", "cpu", "--deploy",
    ]  # fmt: skip
    if drawn:
        command += ["--output", str(output)]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **threads})
    assert process.stdout is not None
    found = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return {"objects": len(found[0]["objects"]), "peak_gib": round(usage.ru_maxrss / 1024**2, 2)}


def mosaics(options: argparse.Namespace) -> list[dict[str, Any]]:
    model = FocusDetr("blood-cells", device="cpu", deploy=True)
    single = load_dataset(options.data, "test", classes=list(model.class_names))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        truth = laid_together(single, Path(folder))
        ways: list[tuple[str, Any, dict[str, Any]]] = [
            ("pictures one by one", single, {}),
            ("mosaics", None, {}),
        ]
        ways += [(f"mosaics in tiles of {side}", None, {"tile": side}) for side in (480, 640)]
        for name, dataset, tiles in ways:
            data = dataset or load_dataset(truth, None, classes=list(model.class_names))
            begun = time.perf_counter()
            metrics = evaluate(model.predictor, data, split=None, progress=False, **tiles).metrics.summary
            rows.append({
                "way": name, "pictures": len(data), "AP": round(metrics["AP"], 4),
                "AP50": round(metrics["AP50"], 4), "AP_small": round(metrics["AP_small"], 4),
                "seconds_each": round((time.perf_counter() - begun) / len(data), 2),
            })  # fmt: skip
    return rows


def laid_together(single: Any, folder: Path) -> Path:
    """The pictures of a data set two by two on one page, as a COCO data set."""
    coco = single.to_coco()
    pages = {"images": [], "annotations": [], "categories": coco["categories"]}
    for number in range(len(single) // 4):
        samples = [single.read(4 * number + place) for place in range(4)]
        width, height = samples[0].image.size
        page = Image.new("RGB", (2 * width, 2 * height))
        for place, sample in enumerate(samples):
            corner = (place % 2 * width, place // 2 * height)
            page.paste(sample.image, corner)
            for item in coco["annotations"]:
                if item["image_id"] == sample.image_id:
                    left, top, *sides = item["bbox"]
                    moved = {"image_id": number, "bbox": [left + corner[0], top + corner[1], *sides]}
                    pages["annotations"].append({**item, **moved})
        page.save(folder / f"{number}.png")
        pages["images"].append(
            {"id": number, "file_name": f"{number}.png", "width": page.width, "height": page.height}
        )
    file = folder / "mosaics.json"
    file.write_text(json.dumps(pages))
    return file


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=size, default=(10_000, 20_000))
    arguments.add_argument("--tile", default="1024")
    arguments.add_argument("--batch-size", type=int, default=4)
    arguments.add_argument("--data", type=Path, help="BCCD, to score instead")
    main(run, arguments.parse_args())

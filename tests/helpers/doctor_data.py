"""A data set in which the doctor finds nothing, and what spoils it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (120, 90)
NAMES = ("cat", "dog")


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture like no other: smooth patches."""
    patches = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def content(split: str, count: int) -> dict[str, Any]:
    """``count`` pictures with two objects of each class."""
    first = {"train": 100, "val": 200}.get(split, 300)
    images = [
        {"id": first + i, "file_name": f"{split}{i}.png", "width": SIZE[0], "height": SIZE[1]}
        for i in range(count)
    ]
    boxes = [(1, [5, 5, 20, 20]), (1, [60, 8, 30, 25]), (2, [10, 50, 25, 30]), (2, [70, 45, 35, 30])]
    annotations = [
        {
            "id": 10 * i + j + 1,
            "image_id": first + i,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3] / 2,
            "iscrowd": 0,
        }
        for i in range(count)
        for j, (category, box) in enumerate(boxes)
    ]
    categories = [{"id": 1, "name": NAMES[0]}, {"id": 2, "name": NAMES[1]}]
    return {"images": images, "annotations": annotations, "categories": categories}


class Healthy:
    """The data set, to be changed before or after it is written."""

    def __init__(self, root: Path, splits: dict[str, int] | None = None) -> None:
        self.root = root
        self.splits = {
            name: content(name, count) for name, count in (splits or {"train": 6, "val": 5}).items()
        }

    def write(self) -> Path:
        for number, (split, each) in enumerate(self.splits.items()):
            folder = self.root / split
            folder.mkdir(parents=True, exist_ok=True)
            (self.root / f"instances_{split}.json").write_text(json.dumps(each))
            for i, image in enumerate(each["images"]):
                scene(1000 * number + i, (image["width"], image["height"])).save(folder / image["file_name"])
        return self.root

    def picture(self, split: str, index: int) -> Path:
        return self.root / split / self.splits[split]["images"][index]["file_name"]

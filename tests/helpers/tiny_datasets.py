"""Tiny data sets on disk, in the layouts found in the wild."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("cat", "dog")


def write_image(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Blocks rather than noise, so that JPEG keeps them.
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(path)
    return path


def coco_content(count: int = 3, width: int = 40, height: int = 30) -> dict[str, Any]:
    """Images 10, 11, ...; each with a dog (category 7) and, but for the last, a cat (category 3)."""
    images = [{"id": 10 + i, "file_name": f"{i}.png", "width": width, "height": height} for i in range(count)]
    annotations = []
    for i in range(count):
        annotations.append(annotation(len(annotations) + 1, 10 + i, 7, [5, 6, 10, 12]))
        if i < count - 1:
            annotations.append(annotation(len(annotations) + 1, 10 + i, 3, [20, 10, 8, 5]))
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def annotation(
    identifier: int, image_id: int, category_id: int, bbox: list[float], **more: Any
) -> dict[str, Any]:
    area = bbox[2] * bbox[3]
    given = {"id": identifier, "image_id": image_id, "category_id": category_id, "bbox": bbox}
    return {**given, "area": area, "iscrowd": 0, **more}


def write_coco(json_file: Path, images: Path, content: dict[str, Any] | None = None) -> Path:
    content = content or coco_content()
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(content))
    for i, image in enumerate(content["images"]):
        write_image(images / image["file_name"], image["width"], image["height"], seed=i)
    return json_file


def voc_xml(
    boxes: list[tuple[str, Any, Any, Any, Any]], width: int = 40, height: int = 30, filename: str = ""
) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


def write_voc(root: Path) -> Path:
    """Splits train (a, b) and val (c); a has a dog, b a cat, c both."""
    boxes = {"a": [("dog", 6, 7, 15, 18)], "b": [("cat", 1, 1, 40, 30)]}
    boxes["c"] = [*boxes["a"], *boxes["b"]]
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for seed, (stem, content) in enumerate(boxes.items()):
        write_image(root / "JPEGImages" / f"{stem}.jpg", seed=seed)
        (root / "Annotations" / f"{stem}.xml").write_text(voc_xml(content, filename=f"{stem}.jpg"))
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("c\n")
    return root


def write_yolo(root: Path, yaml: str = "train: images/train\nval: images/val\nnames: [cat, dog]\n") -> Path:
    """train: 0 with a dog, 1 with an empty label file; val: 2 with both."""
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "val").mkdir(parents=True)
    for name, rows in {
        "train/0": "1 0.25 0.4 0.25 0.4\n",
        "train/1": "",
        "val/2": "0 .5 .5 .1 .1\n1 .5 .5 1 1\n",
    }.items():
        write_image(root / "images" / f"{name}.png")
        (root / "labels" / f"{name}.txt").write_text(rows)
    (root / "data.yaml").write_text(yaml)
    return root

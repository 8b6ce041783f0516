"""Random ground truth and predictions: several sizes, crowds, classes and images without objects."""

from __future__ import annotations

from typing import Any

import numpy as np

CATEGORY_IDS = (7, 3, 40, 12)


def box(generator: np.random.Generator, largest: float) -> list[float]:
    width, height = generator.uniform(2, largest, 2)
    left, top = generator.uniform(0, 400 - width), generator.uniform(0, 300 - height)
    return [float(left), float(top), float(width), float(height)]


def scene(seed: int, images: int = 6, crowds: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The class 12 never has objects, though it is predicted; the last image has none; scores have ties."""
    generator = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image in range(1, images):
        for _ in range(generator.integers(1, 12)):
            bbox = box(generator, float(generator.choice([20, 80, 200])))
            category = int(generator.choice(CATEGORY_IDS[:3]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": int(crowds and generator.random() < 0.15),
                }
            )
            for _ in range(generator.integers(0, 3)):
                moved = [value + float(generator.normal(0, 0.08 * max(bbox[2:]))) for value in bbox]
                moved[2:] = [max(1.0, value) for value in moved[2:]]
                seen = category if generator.random() < 0.8 else int(generator.choice(CATEGORY_IDS))
                predictions.append(_prediction(generator, image, seen, moved))
    for image in range(1, images + 1):
        for _ in range(generator.integers(0, 130)):
            category = int(generator.choice(CATEGORY_IDS))
            predictions.append(_prediction(generator, image, category, box(generator, 150)))
    truth = {
        "info": {},
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": category, "name": f"class {category}"} for category in CATEGORY_IDS],
    }
    return truth, predictions


def _prediction(
    generator: np.random.Generator, image: int, category: int, bbox: list[float]
) -> dict[str, Any]:
    score = round(float(generator.random()), 2)
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}

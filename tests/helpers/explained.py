"""Models and data sets small enough to explain in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from focus_detr.data import load_dataset
from focus_detr.explaining.recall import DataExplanation, DataObject
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from helpers.small_models import small_model
from helpers.tiny_datasets import coco_content, write_coco


def small_predictor(names: tuple[str, ...] = ("cat", "dog", "bird"), **changes: Any) -> Predictor:
    """Random weights, three classes, pictures of 96 x 128."""
    model = small_model(**changes).float()
    size = {"height": 96, "width": 128}
    processor = FocusDetrImageProcessor(size=size, scoring=model.config.scoring)
    return Predictor(model, processor, class_names=names, threshold=0.3)


def data_explanation(folder: Path, name: str = "dog") -> DataExplanation:
    """Of three pictures with a dog of that name each, kept from budgets 0.1, 0.5 and 1 on, and another one
    that no token lies in."""
    content = coco_content(3)
    content["annotations"] = [each for each in content["annotations"] if each["category_id"] == 7]
    content["categories"] = [{"id": 7, "name": name}]
    dataset = load_dataset(
        write_coco(folder / "annotations.json", folder, content), None, classes=[name], on_problem="ignore"
    )

    def dog(index: int, kept: tuple[bool, ...], size: str = "small", reachable: bool = True) -> DataObject:
        box = (5.0, 6.0, 15.0 + index, 18.0)
        path = dataset.records[index].path
        return DataObject(index, path, 0, box, size, reachable, kept, kept)

    objects = [
        dog(0, (True, True, True)),
        dog(1, (False, True, True), "medium"),
        dog(2, (False, False, True)),
        dog(2, (False, False, False), reachable=False),
    ]
    return DataExplanation(dataset, "focus", [0.1, 0.5, 1.0], 1, objects, [])

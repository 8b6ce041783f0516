"""Masks are trained in one call, from new and from a detector, at one budget and at any."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from focus_detr.cli.app import app
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import evaluate
from focus_detr.evaluation.boundaries import BoundaryError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.models import FocusDetrForInstanceSegmentation
from focus_detr.structures.masks import Mask
from focus_detr.training import train
from focus_detr.training.recipe import Recipe
from focus_detr.training.setup import for_task, learns_masks
from focus_detr.zoo.loading import load_model
from helpers.tiny_training import RECIPE, small_focus_detr

DIAMOND = np.array([5.0, 0.0, 10.0, 5.0, 5.0, 10.0, 0.0, 5.0])


def write_masks(folder: Path, images: int = 6, masks: bool = True) -> Path:
    """Diamonds of two colors, in splits train and val, as polygons and as run lengths."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("val", 2)):
        (folder / split).mkdir(parents=True)
        described, annotations = [], []
        for image_id in range(count):
            pixels = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
            for _ in range(image_id % 3 if split == "train" else 1):
                left, top = rng.integers(0, 50, 2).tolist()
                label = int(rng.integers(2))
                ring = (DIAMOND + np.tile([left, top], 4)).tolist()
                bitmap = Mask.of_rings([ring]).decode((64, 64))
                pixels[bitmap, label] = 250
                shape = [ring] if label else Mask.of_bitmap(bitmap).to_coco((64, 64))
                box = {"bbox": [left, top, 10, 10], "area": 50, "iscrowd": 0, "category_id": label + 1}
                box = {**box, "segmentation": shape} if masks else box
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **box})
            Image.fromarray(pixels).save(folder / split / f"{image_id}.png")
            described.append({"id": image_id, "file_name": f"{image_id}.png", "width": 64, "height": 64})
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": described, "annotations": annotations, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    small_focus_detr(denoising_queries=4).save_pretrained(folder)
    FocusDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


RUN = {
    **RECIPE,
    "shortest_edge": 64,
    "longest_edge": 64,
    "epochs": 1,
    "lr_drops": [],
    "checkpoint_steps": None,
}


@pytest.mark.parametrize("changes", [{}, {"task": "any-budget"}], ids=["one budget", "any budget"])
def test_a_detector_learns_masks_of_its_data(tmp_path: Path, detector: Path, changes: dict) -> None:
    data = write_masks(tmp_path / "data")
    result = train(
        data, model=str(detector), recipe={**RUN, **changes}, output=tmp_path / "run", task="segment"
    )
    assert result.report is not None
    assert all(name.startswith("heads.masks") or "backbone" in name for name in result.report.new)
    assert {"AP", "mask_AP", "mask_AP50"} <= set(result.metrics)
    model = load_model(result.model)
    assert isinstance(model, FocusDetrForInstanceSegmentation)
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"loss_mask", "loss_dice", "loss_mask_dn", "eval_mask_AP"} <= set(header)
    assert json.loads((result.model / "config.json").read_text())["architectures"] == [type(model).__name__]

    predictor = Predictor.from_pretrained(result.model)
    report = evaluate(predictor, data, split="val", progress=False)
    assert report.masks is not None and "mask_metrics" in report.to_dict() and "Masks:" in report.summary()
    assert report.masks.summary["AP"] == pytest.approx(result.metrics["mask_AP"], abs=1e-9)
    told = replace(report, boundaries=[BoundaryError("a.png", "cat", 0.5, 0.8, 0.4, {}, {})])
    assert told.to_dict()["mask_boundaries"] == {"objects": 1, "iou": 0.8, "boundary_iou": 0.4}
    assert "0.400 along their boundaries" in told.summary()


def test_data_without_masks_are_refused_before_anything_is_trained(tmp_path: Path, detector: Path) -> None:
    data = write_masks(tmp_path / "data", masks=False)
    with pytest.raises(FocusDetrError, match="no object of 'train' has a mask"):
        train(data, model=str(detector), recipe=RUN, output=tmp_path / "run", task="segment")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_one_command_does_it(tmp_path: Path, detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr("focus_detr.training.train", lambda data, **options: asked.update(options) or 1 / 0)
    CliRunner().invoke(app, ["train", str(tmp_path), "--model", str(detector), "--task", "segment"])
    assert asked["task"] == "segment" and asked["model"] == str(detector)


def test_tasks_become_fields_of_the_recipe(detector: Path, tmp_path: Path) -> None:
    assert for_task({"epochs": 3}, None) == for_task({"epochs": 3}, "detect") == {"epochs": 3}
    assert for_task({"epochs": 3}, "segment") == {"epochs": 3, "model.heads": ["masks"]}
    assert for_task({}, "any-budget") == {"task": "any-budget"}
    assert for_task({"model.heads": ["area", "masks"]}, "segment") == {"model.heads": ["area", "masks"]}
    with pytest.raises(FocusDetrError, match="model.heads"):
        for_task({"model": {"heads": ["area"]}}, "segment")
    with pytest.raises(FocusDetrError, match="leave one out"):
        for_task({"task": "detection"}, "any-budget")
    recipe = Recipe.from_dict(RUN)
    assert not learns_masks(str(detector), recipe) and not learns_masks("focus-detr-lite0", recipe)
    assert learns_masks("focus-detr-lite0", recipe.replace({"model.heads": ["masks"]}))
    FocusDetrForInstanceSegmentation.from_pretrained(detector).save_pretrained(tmp_path)
    assert learns_masks(str(tmp_path), recipe)
    assert not learns_masks(str(tmp_path), recipe.replace({"model.heads": []}))

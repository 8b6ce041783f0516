"""Exported files give the masks of the model that they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr.deploy.deploy import deploy
from focus_detr.evaluation import evaluate
from focus_detr.export import export, load_exported
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from helpers.small_models import SHALLOW, small_model


@pytest.fixture(scope="module")
def model():
    return small_model(**SHALLOW, heads=["masks"])


PROCESSOR = FocusDetrImageProcessor(size={"height": 64, "width": 96})


def pictures(count: int = 2) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 255, (80, 120 + 10 * i, 3), dtype=np.uint8)) for i in range(count)
    ]


def check_same_masks(model, other: Predictor, atol: float = 1e-3) -> None:
    own = Predictor(model, PROCESSOR)
    assert other.gives_masks
    expected, found = own.run(pictures()), other.run(pictures())
    for name in ("masks_kernels", "masks_pixels"):
        given = torch.as_tensor(found.extra[name])  # an array, of most runtimes
        torch.testing.assert_close(given, expected.extra[name], rtol=1e-3, atol=atol)
    assert found.extra["masks_sizes"].tolist() == expected.extra["masks_sizes"].tolist() == [[16, 24]] * 2
    differing = total = 0
    for a, b in zip(
        own.detect(pictures(), threshold=0.0), other.detect(pictures(), threshold=0.0), strict=True
    ):
        assert a.masks is not None and b.masks is not None
        pairs = zip(a.masks[:5], b.masks[:5], strict=True)
        maps = [(one.decode(a.image_size), two.decode(a.image_size)) for one, two in pairs]
        differing += sum(int((one != two).sum()) for one, two in maps)
        total += sum(int(one.sum()) for one, _ in maps)
    assert total and differing <= 0.01 * total


def own_answers(predictor: Predictor, folder: Path) -> Path:
    """A COCO data set in which every other thing that the model sees is an object, mask and all."""
    (folder / "test").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (picture, found) in enumerate(
        zip(pictures(), predictor.detect(pictures(), threshold=0.0), strict=True)
    ):
        picture.save(folder / "test" / f"{number}.png")
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": f"{number}.png", **size})
        for item in found.to_coco(number, [1, 2, 3])[:10:2]:
            box = {"id": len(annotations) + 1, "iscrowd": 0, "area": item["bbox"][2] * item["bbox"][3]}
            annotations.append({**item, **box})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(predictor.class_names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "test" / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_exported_masks_are_the_model_s(model, tmp_path: Path, format: str) -> None:
    pytest.importorskip("openvino" if format == "openvino" else "onnxruntime")
    suffix = {"onnx": ".onnx", "openvino": ".xml"}[format]
    path = export(model, tmp_path / f"model{suffix}", format, image_size=(64, 96), processor=PROCESSOR)
    detector = load_exported(path)
    assert detector.config.heads == ("masks",)
    check_same_masks(model, Predictor(detector, detector.processor))

    data = own_answers(Predictor(model, PROCESSOR), tmp_path / "data")
    own = evaluate(Predictor(model, PROCESSOR), data, progress=False)
    other = evaluate(path, data, output=tmp_path / "report", progress=False)
    assert own.masks is not None and other.masks is not None
    assert other.masks.summary["AP"] == pytest.approx(own.masks.summary["AP"], abs=0.02)
    assert own.masks.summary["AP"] > 0.1 and (tmp_path / "report" / "boundaries.jpg").is_file()


@pytest.mark.slow
def test_a_program_of_torch_has_masks_too(model, tmp_path: Path) -> None:
    path = export(model, tmp_path / "model.pt2", "torch-export", image_size=(64, 96), processor=PROCESSOR)
    detector = load_exported(path)
    check_same_masks(model, Predictor(detector, detector.processor))


def test_a_deployed_model_has_masks_too(model) -> None:
    check_same_masks(model, Predictor(deploy(model), PROCESSOR))

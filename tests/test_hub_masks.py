"""Models with masks in transformers: Auto classes and the pipeline of segmentation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForInstanceSegmentation, pipeline

from focus_detr import (
    FocusDetrForInstanceSegmentation,
    FocusDetrForObjectDetection,
    FocusDetrImageProcessor,
    Predictor,
)
from focus_detr.errors import FocusDetrError
from focus_detr.models import FocusDetrOutput
from focus_detr.structures.pixel_masks import FORM
from helpers.small_models import small_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():  # weights that do not depend on what ran before
        torch.manual_seed(0)
        FocusDetrForInstanceSegmentation(small_config()).save_pretrained(place)
    FocusDetrImageProcessor(size={"height": 64, "width": 96}).save_pretrained(place)
    return place


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8))


def test_the_auto_class_loads_it(folder):
    model = AutoModelForInstanceSegmentation.from_pretrained(folder)
    assert isinstance(model, FocusDetrForInstanceSegmentation)
    assert isinstance(model, FocusDetrForObjectDetection)


def test_the_pipeline_of_segmentation_gives_the_masks_of_the_predictor(folder):
    segment = pipeline("image-segmentation", model=str(folder))
    found = segment(picture(), threshold=0.0, overlap_mask_area_threshold=0.0)
    assert found and {"score", "label", "mask"} <= found[0].keys()
    assert all(each["mask"].size == (100, 80) for each in found)
    (own,) = Predictor.from_pretrained(folder).detect([picture()], threshold=0.0)
    free, expected = np.ones((80, 100), dtype=bool), []
    for mask in own.masks:  # the best is in front of all others
        seen = mask.decode((80, 100)) & free
        if seen.any():
            expected.append(seen)
            free &= ~seen
    # The predictor gives the model's number of detections, the pipeline all.
    assert len(found) >= len(expected) > 0
    for each, seen in zip(found, expected, strict=False):
        np.testing.assert_array_equal(np.asarray(each["mask"]) > 0, seen)


def test_a_higher_threshold_of_masks_covers_less():
    kernels = torch.zeros(1, 1, 2 + FORM)
    kernels[..., -FORM:] = torch.tensor([2.0, 0, 0, -8, -8, 0])  # the ellipse in its box
    extra = {"kernels": kernels, "pixels": torch.zeros(1, 2, 16, 24), "sizes": torch.tensor([[16, 24]])}
    outputs = FocusDetrOutput(
        logits=torch.full((1, 1, 3), 2.0),
        pred_boxes=torch.tensor([[[0.5, 0.5, 0.8, 0.8]]]),
        extra={f"masks_{name}": value for name, value in extra.items()},
    )
    processor = FocusDetrImageProcessor()
    areas = []
    for level in (0.2, 0.5, 0.8):
        (said,) = processor.post_process_instance_segmentation(
            outputs, mask_threshold=level, target_sizes=[(80, 100)]
        )
        areas.append(int((said["segmentation"] == 0).sum()))
        assert [each["id"] for each in said["segments_info"]] == [0]
    assert areas[0] > areas[1] > areas[2] > 0
    assert areas[1] == pytest.approx(np.pi / 4 * 64 * 80, rel=0.02)
    (plain,) = processor.post_process_instance_segmentation(outputs)
    assert plain["segmentation"].shape == (16, 24)
    with pytest.raises(FocusDetrError, match="mask_threshold"):
        processor.post_process_instance_segmentation(outputs, mask_threshold=1.0)
    with pytest.raises(FocusDetrError, match="gives no masks"):
        processor.post_process_instance_segmentation(replace(outputs, extra=None))

"""Models with masks in transformers: Auto classes and the pipeline of segmentation."""

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
from helpers.small_models import small_config, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    model = small_model(heads=["masks"], dtype=torch.float32)
    FocusDetrForInstanceSegmentation(model.config).save_pretrained(place)
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
    # The best is in front of all others.
    first = max(found, key=lambda each: each["score"])
    np.testing.assert_array_equal(np.asarray(first["mask"]) > 0, own.masks[0].decode((80, 100)))
    covered = np.zeros((80, 100), dtype=int)
    for each in found:
        covered += np.asarray(each["mask"]) > 0
    assert covered.max() == 1  # a pixel is of one object


def test_a_higher_threshold_of_masks_covers_less(folder):
    model = FocusDetrForInstanceSegmentation.from_pretrained(folder).eval()
    processor = FocusDetrImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(picture(), return_tensors="pt"))
    areas = [
        (processor.post_process_instance_segmentation(
            outputs, threshold=0.0, mask_threshold=level, overlap_mask_area_threshold=0.0,
            target_sizes=[(80, 100)], top_k=1,
        )[0]["segmentation"] == 0).sum().item()
        for level in (0.2, 0.5, 0.8)
    ]  # fmt: skip
    assert areas[0] > areas[1] > areas[2]
    (plain,) = processor.post_process_instance_segmentation(outputs, threshold=0.0)
    assert plain["segmentation"].shape == (16, 24)
    with pytest.raises(FocusDetrError, match="mask_threshold"):
        processor.post_process_instance_segmentation(outputs, mask_threshold=1.0)
    with torch.no_grad():
        bare = FocusDetrForObjectDetection(small_config()).eval()(torch.zeros(1, 3, 64, 64))
    with pytest.raises(FocusDetrError, match="gives no masks"):
        processor.post_process_instance_segmentation(bare)

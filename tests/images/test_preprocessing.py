"""The image processor in numpy: one arithmetic, whoever calls it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr.export.metadata import SteppedImageProcessor
from focus_detr.images.postprocessing import found_objects
from focus_detr.images.preprocessing import ArrayProcessor
from focus_detr.images.processor import FocusDetrImageProcessor

SETTINGS = [
    {"size": {"shortest_edge": 60, "longest_edge": 90}},
    {"size": {"shortest_edge": 64, "multiple": 32}, "pad_divisor": 32},
    {"size": {"height": 40, "width": 70}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
    {"do_resize": False, "do_normalize": False},
]


def picture(width: int, height: int, mode: str) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGBA" if mode == "RGBA" else "RGB")
    return image if mode == "RGBA" else image.convert(mode)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "I"])
def test_pixels_are_those_of_the_image_processor(settings, mode):
    pictures = [picture(*size, mode) for size in ((90, 61), (61, 90), (200, 30), (113, 112))]
    tensors = FocusDetrImageProcessor(**settings)(pictures)
    values, mask = ArrayProcessor(**settings).arrays(pictures)
    assert values.dtype == np.float32 and np.array_equal(tensors["pixel_values"].numpy(), values)
    assert np.array_equal(tensors["pixel_mask"].numpy(), mask)


@pytest.mark.parametrize("kind", [ArrayProcessor, SteppedImageProcessor])
@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_resized_before_is_not_resized_again(kind, settings):
    """As loading does, in a thread of its own."""
    processor = kind(**settings)
    for size in ((90, 61), (61, 90), (333, 500), (1000, 30)):
        image = picture(*size, "RGB")
        small = processor.resized(image)
        assert small.size == processor.size_of(image.height, image.width)[::-1]
        assert processor.resized(small) is small
        assert np.array_equal(processor.arrays(small)[0], processor.arrays(image)[0])


@pytest.mark.parametrize("scoring", ["sigmoid", "softmax"])
def test_objects_are_those_of_a_plain_form_in_torch(scoring):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (2, 50, 6)).astype(np.float32)
    boxes = random.uniform(0.3, 0.6, (2, 50, 4)).astype(np.float32)
    sizes = np.array([(300, 500), (40, 30)])
    threshold = {"sigmoid": 0.95, "softmax": 0.6}[scoring]
    options = {"threshold": threshold, "top_k": 40, "nms_threshold": None}
    found = found_objects(logits, boxes, sizes, scoring=scoring, **options)
    for image in range(2):
        tensor = torch.from_numpy(logits[image])
        if scoring == "sigmoid":
            scores, flat = tensor.sigmoid().flatten().topk(40)
            labels, queries = flat % 6, flat // 6
        else:
            scores, labels = tensor.softmax(-1)[:, :-1].max(-1)
            scores, queries = scores.topk(40)
            labels = labels[queries]
        kept = scores >= threshold
        assert 0 < kept.sum() < 40
        assert np.array_equal(found[image]["labels"], labels[kept])
        assert np.array_equal(found[image]["queries"], queries[kept])
        np.testing.assert_allclose(found[image]["scores"], scores[kept], rtol=1e-6)
        height, width = sizes[image]
        x, y, w, h = boxes[image][queries[kept]].T
        expected = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1) * [width, height, width, height]
        np.testing.assert_allclose(found[image]["boxes"], expected, rtol=1e-5)


def test_of_scores_alike_the_first_queries_are_taken():
    logits, boxes = np.zeros((1, 9, 1), np.float32), np.full((1, 9, 4), 0.5, np.float32)
    options = {"threshold": 0.0, "scoring": "sigmoid", "nms_threshold": None}
    (found,) = found_objects(logits, boxes, None, top_k=3, **options)
    assert found["queries"].tolist() == [0, 1, 2]
    logits[0, 4], logits[0, 7] = 5, -np.inf
    (found,) = found_objects(logits, boxes, None, top_k=9, **options)
    assert found["queries"].tolist() == [4, 0, 1, 2, 3, 5, 6, 8]  # a score of zero is no detection
    logits[0, 2] = np.nan
    (found,) = found_objects(logits, boxes, None, top_k=3, **options)
    assert found["queries"].tolist() == [4, 0, 1]  # what is no number is no detection


def test_of_arrays_come_arrays_and_of_tensors_tensors():
    outputs = {"logits": np.ones((1, 2, 1), np.float32), "pred_boxes": np.full((1, 2, 4), 0.5, np.float32)}
    (arrays,) = ArrayProcessor().post_process_object_detection(outputs, 0.5, [(10, 20)])
    tensors = {name: torch.from_numpy(value).bfloat16() for name, value in outputs.items()}
    (found,) = ArrayProcessor().post_process_object_detection(tensors, 0.5, torch.tensor([[10, 20]]))
    for name, value in arrays.items():
        assert isinstance(value, np.ndarray) and isinstance(found[name], torch.Tensor)
        assert np.array_equal(found[name].numpy(), value)

"""The image processor: sizes, pixels, batches, saved settings, and the way back to boxes in pixels."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    ObjectDetectionPipeline,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

import focus_detr.data
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor

PLAIN = {"do_rescale": False, "do_normalize": False}


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "size", "expected"),
    [
        # Worked by hand from detectron2's rule: scale, cap the longer side, then int(x + 0.5).
        ((640, 480), {"shortest_edge": 800, "longest_edge": 1333}, (800, 1067)),
        ((480, 640), {"shortest_edge": 800, "longest_edge": 1333}, (1067, 800)),
        ((1000, 300), {"shortest_edge": 800, "longest_edge": 1333}, (400, 1333)),
        ((500, 500), {"shortest_edge": 416, "longest_edge": 693}, (416, 416)),
        ((1000, 3), {"shortest_edge": 10, "longest_edge": 100}, (1, 100)),
        ((640, 480), {"height": 320, "width": 416}, (320, 416)),
        ((640, 480), {"shortest_edge": 240}, (240, 320)),
    ],
)
def test_resized_size(image: tuple[int, int], size: dict[str, int], expected: tuple[int, int]) -> None:
    batch = FocusDetrImageProcessor(size=size)(Image.new("RGB", image))
    assert batch["pixel_values"].shape == (1, 3, *expected)
    assert batch["pixel_mask"].shape == (1, *expected) and batch["pixel_mask"].all()


def test_pixels_are_pil_bilinear_then_normalised() -> None:
    image = picture()
    values = FocusDetrImageProcessor(size={"shortest_edge": 18, "longest_edge": 99})(image)["pixel_values"][0]
    resized = np.asarray(image.resize((24, 18), Image.Resampling.BILINEAR)).astype(np.float64)
    expected = (resized - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(values.permute(1, 2, 0), expected, atol=1e-5)


def test_steps_can_be_skipped() -> None:
    image = picture()
    raw = FocusDetrImageProcessor(do_resize=False, **PLAIN)(image)["pixel_values"][0]
    np.testing.assert_array_equal(raw.permute(1, 2, 0), np.asarray(image))
    scaled = FocusDetrImageProcessor(do_resize=False, do_normalize=False)(image)["pixel_values"][0]
    np.testing.assert_allclose(scaled, raw / 255, atol=1e-6)


def test_all_kinds_of_input_give_the_same() -> None:
    image = picture()
    processor = FocusDetrImageProcessor(size={"height": 20, "width": 20})
    expected = processor(image)["pixel_values"]
    array = np.asarray(image)
    alpha = np.concatenate([array, np.full((30, 40, 1), 255, np.uint8)], axis=2)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    floats = (array / 255).astype(np.float32)
    for same in (array, alpha, tensor, tensor.numpy(), floats, tensor / 255, [image], array[None], (tensor,)):
        assert torch.equal(processor(same)["pixel_values"], expected)
    grey = np.asarray(image.convert("L"))
    expected = processor(image.convert("L").convert("RGB"))["pixel_values"]
    for same in (grey, grey[..., None], grey[None], grey.astype(np.uint16) * 257, image.convert("L")):
        assert torch.equal(processor(same)["pixel_values"], expected)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=4), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_an_image_is_an_island(sizes: list[tuple[int, int]], divisor: int) -> None:
    """Batch mates and padding change nothing of an image, and padding is exactly zero."""
    processor = FocusDetrImageProcessor(size={"shortest_edge": 12, "longest_edge": 20}, pad_divisor=divisor)
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    batch = processor(images)
    height, width = batch["pixel_values"].shape[-2:]
    assert height % divisor == 0 and width % divisor == 0
    for image, values, mask in zip(images, batch["pixel_values"], batch["pixel_mask"], strict=True):
        alone = processor(image, pad_divisor=1)["pixel_values"][0]
        rows, columns = alone.shape[-2:]
        assert torch.equal(values[:, :rows, :columns], alone)
        assert mask[:rows, :columns].all() and mask.sum() == rows * columns
        assert (values * (1 - mask)).abs().max() == 0


@pytest.mark.parametrize("size", [{"shortest_edge": 96, "longest_edge": 160}, {"height": 64, "width": 96}])
def test_saved_and_loaded(tmp_path: Path, size: dict[str, int]) -> None:
    saved = FocusDetrImageProcessor(
        size=size, image_mean=(0.5, 0.4, 0.3), image_std=(0.2, 0.3, 0.4), pad_divisor=32, nms_threshold=0.6
    )
    saved.save_pretrained(tmp_path)
    loaded = FocusDetrImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == saved.to_dict()
    assert torch.equal(loaded(picture())["pixel_values"], saved(picture())["pixel_values"])
    overridden = FocusDetrImageProcessor.from_pretrained(
        tmp_path, size={"height": 8, "width": 8}, pad_divisor=1
    )
    assert overridden(picture())["pixel_values"].shape == (1, 3, 8, 8)


def test_auto_classes_and_pipelines_load_it(tmp_path: Path) -> None:
    """They add options of their own, which must not be taken for misspelt settings."""

    class Config(PreTrainedConfig):
        model_type = "stand_in_for_loading"

    AutoConfig.register(Config.model_type, Config)
    AutoImageProcessor.register(Config, image_processor_classes={"pil": FocusDetrImageProcessor})
    Config().save_pretrained(tmp_path)
    FocusDetrImageProcessor(size={"height": 64, "width": 32}).save_pretrained(tmp_path)
    as_pipelines_do = {"_from_pipeline": "object-detection", "dtype": "auto", "code_revision": None}
    for options in ({}, {"trust_remote_code": False}, as_pipelines_do):
        loaded = AutoImageProcessor.from_pretrained(tmp_path, **options)
        assert isinstance(loaded, FocusDetrImageProcessor) and loaded.size == {"height": 64, "width": 32}
    with pytest.raises(FocusDetrError, match="sise"):
        AutoImageProcessor.from_pretrained(tmp_path, sise=3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sise": 3}, "sise"),
        ({"size": {"height": 3}}, "height"),
        ({"size": {"shortest_edge": 0}}, "shortest_edge"),
        ({"size": {"shortest_edge": 20, "longest_edge": 10}}, "longest_edge"),
        ({"size": {"height": 3, "width": 4.5}}, "width"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": [0.5, 0, 1]}, "image_std"),
        ({"pad_divisor": 0}, "pad_divisor"),
        ({"nms_threshold": 0.0}, "nms_threshold"),
        ({"nms_threshold": 1.5}, "nms_threshold"),
    ],
)
def test_unusable_settings_are_refused(options: dict, named: str, tmp_path: Path) -> None:
    with pytest.raises(FocusDetrError, match=named):
        FocusDetrImageProcessor(**options)
    with pytest.raises(FocusDetrError, match=named):
        FocusDetrImageProcessor()(picture(), **options)
    FocusDetrImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(FocusDetrError, match=named):
        FocusDetrImageProcessor.from_pretrained(tmp_path, **options)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(options))
    with pytest.raises(FocusDetrError, match=named):
        FocusDetrImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("images", [[], np.zeros((5, 6, 7)), np.zeros(5), "photo.jpg", [None]])
def test_what_is_no_image_is_refused(images: object) -> None:
    with pytest.raises(FocusDetrError, match="images"):
        FocusDetrImageProcessor()(images)


def outputs_of(logits: list, boxes: list) -> ModelOutput:
    return ModelOutput(logits=torch.tensor([logits]), pred_boxes=torch.tensor([boxes]))


def test_post_process_takes_the_best_pairs_of_query_and_class() -> None:
    outputs = outputs_of(
        [[2.0, 1.0], [-3.0, 3.0], [0.5, -9.0]],
        [[0.5, 0.5, 0.2, 0.4], [0.9, 0.1, 0.4, 0.4], [0.2, 0.2, 0.0, 0.1]],
    )
    (result,) = FocusDetrImageProcessor().post_process_object_detection(
        outputs, 0.5, torch.tensor([[100, 200]])
    )
    # Query 1 class 1, then query 0 twice, as both classes; query 2 has no width.
    assert result["labels"].tolist() == [1, 0, 1]
    torch.testing.assert_close(result["scores"], torch.tensor([3.0, 2.0, 1.0]).sigmoid())
    torch.testing.assert_close(
        result["boxes"], torch.tensor([[140.0, 0, 200, 30], [80, 30, 120, 70], [80, 30, 120, 70]])
    )
    (best,) = FocusDetrImageProcessor().post_process_object_detection(outputs, 0.0, [(1, 1)], top_k=1)
    assert best["labels"].tolist() == [1]
    (fractions,) = FocusDetrImageProcessor().post_process_object_detection(outputs, 0.9)
    torch.testing.assert_close(fractions["boxes"], torch.tensor([[0.7, 0.0, 1.0, 0.3]]))
    with pytest.raises(FocusDetrError, match="target_sizes"):
        FocusDetrImageProcessor().post_process_object_detection(outputs, 0.5, [(1, 1), (2, 2)])


def test_softmax_scoring_is_that_of_detr(tmp_path: Path) -> None:
    from transformers import DetrImageProcessorPil

    torch.manual_seed(0)
    centre, extent = torch.rand(2, 6, 2) * 0.2 + 0.4, torch.rand(2, 6, 2) * 0.2 + 0.1
    outputs = ModelOutput(logits=2 * torch.randn(2, 6, 5), pred_boxes=torch.cat([centre, extent], -1))
    outputs.logits[:, 0, -1] = 20.0  # surely no object
    sizes = torch.tensor([[30, 40], [90, 50]])
    FocusDetrImageProcessor(scoring="softmax").save_pretrained(tmp_path)
    found = FocusDetrImageProcessor.from_pretrained(tmp_path).post_process_object_detection(
        outputs, 0.3, sizes
    )
    expected = DetrImageProcessorPil().post_process_object_detection(outputs, 0.3, sizes)
    for ours, theirs in zip(found, expected, strict=True):
        order = theirs["scores"].argsort(descending=True)
        assert 0 < len(order) < 6
        for key in ("scores", "labels", "boxes"):
            torch.testing.assert_close(ours[key], theirs[key][order])
    with pytest.raises(FocusDetrError, match="scoring='argmax'"):
        FocusDetrImageProcessor(scoring="argmax")


def test_duplicates_go_where_the_settings_say_so() -> None:
    box, near, far = [0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.2, 0.2, 0.2, 0.2]
    outputs = outputs_of([[-9.0, 2.0], [-9.0, 3.0], [1.0, -9.0], [-9.0, 0.5]], [box, near, box, far])
    found = {
        threshold: FocusDetrImageProcessor(nms_threshold=threshold).post_process_object_detection(outputs)[0]
        for threshold in (None, 0.8, 0.95)
    }
    assert found[None]["labels"].tolist() == found[0.95]["labels"].tolist() == [1, 1, 0, 1]
    # The worse of two boxes of class 1 goes; that of class 0 at the same place stays.
    assert found[0.8]["labels"].tolist() == [1, 0, 1]
    torch.testing.assert_close(found[0.8]["scores"], torch.tensor([3.0, 1.0, 0.5]).sigmoid())


def test_a_suppressed_box_suppresses_none() -> None:
    outputs = outputs_of([[3.0], [2.0], [1.0]], [[x, 0.5, 0.4, 0.4] for x in (0.40, 0.50, 0.60)])
    processor = FocusDetrImageProcessor(nms_threshold=0.5)
    assert len(processor.post_process_object_detection(outputs)[0]["scores"]) == 2


def test_post_process_treats_each_image_of_a_batch_alone() -> None:
    torch.manual_seed(0)
    logits, boxes, sizes = torch.randn(3, 7, 4), torch.rand(3, 7, 4), torch.randint(10, 90, (3, 2))
    processor = FocusDetrImageProcessor()
    together = processor.post_process_object_detection(
        ModelOutput(logits=logits, pred_boxes=boxes), 0.4, sizes, top_k=9
    )
    for i, found in enumerate(together):
        outputs = ModelOutput(logits=logits[i : i + 1], pred_boxes=boxes[i : i + 1])
        (alone,) = processor.post_process_object_detection(outputs, 0.4, sizes[i : i + 1], top_k=9)
        assert len(found["scores"]) > 0 and (found["scores"].diff() <= 0).all()
        for key in ("scores", "labels", "boxes"):
            assert torch.equal(found[key], alone[key])
        height, width = sizes[i].tolist()
        limits = torch.tensor([width, height, width, height])
        assert (found["boxes"] >= 0).all() and (found["boxes"] <= limits).all()


class StandIn(PreTrainedModel):
    """Sees a box over the left half of whatever picture it is given."""

    config_class = PreTrainedConfig
    main_input_name = "pixel_values"

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.logits = torch.nn.Parameter(torch.tensor([[[-1.0, 4.0]]]))

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> ModelOutput:
        assert pixel_mask.shape == (len(pixel_values), *pixel_values.shape[-2:])
        boxes = torch.tensor([[[0.25, 0.5, 0.5, 1.0]]])
        return ModelOutput(logits=self.logits.expand(len(pixel_values), 1, 2), pred_boxes=boxes)


def test_works_in_the_object_detection_pipeline() -> None:
    model = StandIn(PreTrainedConfig(id2label={0: "cat", 1: "dog"}))
    pipe = ObjectDetectionPipeline(
        model=model, image_processor=FocusDetrImageProcessor(size={"shortest_edge": 16})
    )
    for found in (pipe(picture(), threshold=0.6), pipe([picture()], threshold=0.6)[0]):
        assert [(each["label"], each["box"]) for each in found] == [
            ("dog", {"xmin": 0, "ymin": 0, "xmax": 20, "ymax": 30})
        ]
    assert pipe(picture(), threshold=0.99) == []


def test_the_data_package_does_not_import_it() -> None:
    """The processor needs the data package: importing back would be a circle, and data would wait for
    transformers. Names for the type checker alone stand indented, so they do not count."""
    for file in Path(focus_detr.data.__file__).parent.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(("transformers", "focus_detr.images.processor")), (
                    file
                )


def test_a_score_of_just_the_threshold_reaches_it():
    outputs = {"logits": torch.tensor([[[0.0], [-0.001]]]), "pred_boxes": torch.full((1, 2, 4), 0.5)}
    (found,) = FocusDetrImageProcessor().post_process_object_detection(outputs, threshold=0.5)
    assert found["scores"].tolist() == [0.5]


def test_a_score_of_zero_is_no_detection_at_any_threshold():
    """Queries beyond the tokens of a small image of a batch have it."""
    logits = torch.tensor([[[torch.finfo(torch.float32).min], [-9.0]]])
    outputs = {"logits": logits, "pred_boxes": torch.full((1, 2, 4), 0.5)}
    (found,) = FocusDetrImageProcessor().post_process_object_detection(outputs, threshold=0.0)
    assert len(found["scores"]) == 1 and found["scores"] > 0


def test_the_mask_takes_a_byte_a_pixel():
    """As int64 it was two fifths of what is copied to a GPU."""
    batch = FocusDetrImageProcessor(size=32)([picture(40, 30), picture(30, 40)])
    assert batch["pixel_mask"].dtype == torch.uint8


@pytest.mark.parametrize(
    "empty",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0, 3), np.uint8),
        np.zeros((0, 0), np.float32),
        torch.zeros(3, 0, 7),
        Image.new("RGB", (0, 5)),
        Image.new("L", (5, 0)),
    ],
)
def test_an_image_without_pixels_is_refused_in_words(empty):
    with pytest.raises(FocusDetrError, match="no pixels|cannot use an array"):
        FocusDetrImageProcessor()([picture(), empty])


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 5, 5, 3), np.uint8), torch.zeros(0, 3, 5, 5)])
def test_an_empty_batch_is_refused_in_words(empty):
    with pytest.raises(FocusDetrError, match="empty"):
        FocusDetrImageProcessor()(empty)


def test_pixels_that_are_no_numbers_do_not_darken_the_others():
    plain = FocusDetrImageProcessor(do_resize=False, **PLAIN)
    pixels = np.full((2, 2, 3), 0.5, np.float32)
    pixels[0, 0], pixels[0, 1], pixels[1, 0] = np.nan, np.inf, -np.inf
    assert plain(pixels)["pixel_values"][0, 0].tolist() == [[0, 255], [0, 128]]


def test_one_value_just_above_one_does_not_turn_a_picture_black():
    plain = FocusDetrImageProcessor(do_resize=False, **PLAIN)
    pixels = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    overshot = pixels.clone()
    overshot[0, 0, 0] = 1.0001
    difference = plain(overshot)["pixel_values"] - plain(pixels)["pixel_values"]
    assert difference.flatten()[1:].abs().max() == 0


def test_what_white_is_can_be_said():
    dark = np.full((4, 4, 3), 1.0, np.float32)  # almost black, 0..255
    plain = FocusDetrImageProcessor(do_resize=False, **PLAIN)
    assert plain(dark)["pixel_values"].max() == 255
    assert plain(dark, float_range=255)["pixel_values"].max() == 1
    with pytest.raises(FocusDetrError, match="float_range=2: must be 1 or 255"):
        FocusDetrImageProcessor(float_range=2)


def test_a_normalised_tensor_is_refused():
    processor = FocusDetrImageProcessor(size=32)
    once = processor(picture())["pixel_values"]
    with pytest.raises(FocusDetrError, match="look normalised already"):
        processor(once)


def test_half_precision_tensors_are_images():
    pixels = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain = FocusDetrImageProcessor(do_resize=False, **PLAIN)
    assert torch.equal(plain(pixels)["pixel_values"], plain(pixels.float())["pixel_values"])


def test_edges_may_be_rounded_to_multiples():
    size = {"shortest_edge": 416, "longest_edge": 416, "multiple": 32}
    processor = FocusDetrImageProcessor(size=size)
    for image_size, made in (((480, 640), (320, 416)), ((640, 426), (416, 288)), ((20, 900), (32, 416))):
        pixels = processor(Image.new("RGB", image_size[::-1]))["pixel_values"]
        assert tuple(pixels.shape[2:]) == made
    with pytest.raises(FocusDetrError, match="'multiple'"):
        FocusDetrImageProcessor(size={**size, "multiple": 0})
    with pytest.raises(FocusDetrError, match="size="):
        FocusDetrImageProcessor(size={"height": 64, "width": 64, "multiple": 32})

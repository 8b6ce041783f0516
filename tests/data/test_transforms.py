"""Transforms keep boxes on their objects, give the sizes asked for, and depend on the generator alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from focus_detr.data.records import Sample
from focus_detr.data.transforms.augmentations import build_transforms
from focus_detr.data.transforms.draws import Draws, shape_of
from focus_detr.data.transforms.geometric import (
    Compose,
    HorizontalFlip,
    OneOf,
    PhotometricDistortion,
    RandomCrop,
    RandomResize,
    ScaleJitter,
    Transform,
    VerticalFlip,
)
from focus_detr.data.transforms.mosaic import Mosaic
from focus_detr.errors import FocusDetrError
from focus_detr.structures.instances import Instances

SIZE = {"shortest_edge": 60, "longest_edge": 100}
RED, BLUE = (255, 0, 0), (0, 0, 255)


def painted(width: int = 80, height: int = 60, box: tuple[int, int, int, int] = (10, 20, 40, 50)) -> Sample:
    """Grey, with a red rectangle that the only box encloses exactly."""
    image = Image.new("RGB", (width, height), (114, 114, 114))
    image.paste(RED, box)
    objects = Instances(np.asarray([box], dtype=np.float32), np.array([1]))
    return Sample(image, objects, 5, Path("a.png"), (height, width), objects.copy())


def red_extent(image: Image.Image) -> list[int] | None:
    pixels = np.asarray(image).astype(int)
    ys, xs = np.nonzero(pixels[..., 0] - pixels[..., 1] > 255 / 2)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else None


GEOMETRIC: dict[str, Transform] = {
    "horizontal flip": HorizontalFlip(1.0),
    "vertical flip": VerticalFlip(1.0),
    "resize": RandomResize((30, 45, 90), 120),
    "crop": RandomCrop(20, 50),
    "scale jitter": ScaleJitter(SIZE, min_visible=0.0),
    "detr": build_transforms("detr", size=SIZE),
    "detr, stretched": build_transforms("detr", size={"height": 50, "width": 90}),
}


@pytest.mark.parametrize("name", GEOMETRIC)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 25), st.integers(8, 40), st.integers(8, 35))
@settings(max_examples=30, deadline=None)
def test_boxes_stay_on_what_they_enclose(
    name: str, seed: int, left: int, top: int, width: int, height: int
) -> None:
    sample = GEOMETRIC[name](painted(box=(left, top, left + width, top + height)), Draws.alone(seed))
    seen = red_extent(sample.image)
    if seen is None:
        # Smoothing may wash out a sliver at the border, never more.
        assert all(min(x2 - x1, y2 - y1) < 2 for x1, y1, x2, y2 in sample.boxes_xyxy)
    else:
        np.testing.assert_allclose(sample.boxes_xyxy[0], seen, atol=2)
    assert sample.boxes_xyxy.dtype == np.float32 and len(sample.labels) == len(sample.boxes_xyxy)
    np.testing.assert_array_equal(sample.ignored, sample.boxes_xyxy)
    assert (sample.orig_size, sample.image_id) == ((60, 80), 5)


@pytest.mark.parametrize("name", [*GEOMETRIC, "small-data"])
def test_the_generator_decides_alone(name: str) -> None:
    transform = GEOMETRIC.get(name) or build_transforms(name, size=SIZE, mosaic=0.0)
    once, again = (transform(painted(), Draws.alone(3)) for _ in range(2))
    np.testing.assert_array_equal(np.asarray(once.image), np.asarray(again.image))
    np.testing.assert_array_equal(once.boxes_xyxy, again.boxes_xyxy)


def test_flips_by_hand_and_there_and_back() -> None:
    draws = Draws.alone(0)
    assert HorizontalFlip(1.0)(painted(), draws).boxes_xyxy.tolist() == [[40, 20, 70, 50]]
    assert VerticalFlip(1.0)(painted(), draws).boxes_xyxy.tolist() == [[10, 10, 40, 40]]
    there_and_back = Compose((HorizontalFlip(1.0), HorizontalFlip(1.0)))(painted(), draws)
    assert there_and_back.boxes_xyxy.tolist() == painted().boxes_xyxy.tolist()
    assert HorizontalFlip(0.0)(painted(), draws).boxes_xyxy.tolist() == [[10, 20, 40, 50]]


def test_crop_range() -> None:
    sizes = {RandomCrop(20, 50)(painted(), Draws.alone(seed)).image.size for seed in range(300)}
    widths, heights = zip(*sizes, strict=True)
    assert (min(widths), max(widths), min(heights), max(heights)) == (20, 50, 20, 50)
    assert RandomCrop(500, 900)(painted(), Draws.alone(0)).image.size == (80, 60)


def test_objects_hardly_visible_are_forgotten_when_asked() -> None:
    kept = {True: 0, False: 0}
    for seed in range(200):
        strict, lenient = (
            ScaleJitter(SIZE, (1.5, 1.6), min_visible)(painted(), Draws.alone(seed))
            for min_visible in (0.5, 0.0)
        )
        assert len(strict.labels) <= len(lenient.labels)
        whole = 30 * 30 * (lenient.image.width / 80) ** 2 * 2.2  # at least 1.5 squared
        if len(strict.labels):
            left, top, right, bottom = strict.boxes_xyxy[0]
            assert (right - left) * (bottom - top) >= 0.45 * whole
        kept[len(strict.labels) == len(lenient.labels)] += 1
    assert kept[True] and kept[False]


def test_detr_recipe_at_the_published_size() -> None:
    """Shortest edges 480..800 in steps of 32; crops from 400, 500 or 600 with sides of 384 to 600."""
    flip, choice = build_transforms("detr").steps
    assert flip == HorizontalFlip(0.5) and isinstance(choice, OneOf)
    plain, cropped = choice.choices
    assert plain == RandomResize(tuple(range(480, 801, 32)), 1333)
    assert cropped == Compose((RandomResize((400, 500, 600)), RandomCrop(384, 600), plain))
    small = build_transforms("detr", size={"shortest_edge": 400, "longest_edge": 600}).steps[1].choices[0]
    assert small == RandomResize(tuple(range(240, 401, 16)), 600)


def test_none_resizes_as_inference_does_or_not_at_all() -> None:
    draws = Draws.alone(0)
    assert build_transforms("none")(painted(), draws).image.size == (80, 60)
    resized = build_transforms("none", size={"height": 30, "width": 80})(painted(), draws)
    assert resized.image.size == (80, 30) and resized.boxes_xyxy.tolist() == [[10, 10, 40, 25]]


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("strong", {}, "strong.*small-data"),
        ("detr", {"mosaic": 0.5}, "mosaic.*crop_range"),
        ("small-data", {"mosaic": 1.5}, "mosaic=1.5"),
        ("small-data", {"scale": (2, 1)}, "scale"),
        ("small-data", {"size": {"height": 3}}, "size"),
        ("detr", {"shortest_edges": ["480"]}, "shortest_edges"),
        ("detr", {"crop_range": (1,)}, "crop_range"),
    ],
)
def test_unknown_recipes_and_options_are_refused(name: str, options: dict, named: str) -> None:
    with pytest.raises(FocusDetrError, match=named):
        build_transforms(name, **options)


def test_photometric_distortion_changes_colors_and_nothing_else() -> None:
    sample = painted()
    changed = PhotometricDistortion(probability=1.0, hue=0.2)(sample, Draws.alone(1))
    assert changed.image.size == sample.image.size and changed.boxes_xyxy is sample.boxes_xyxy
    assert np.asarray(changed.image).tolist() != np.asarray(sample.image).tolist()
    assert PhotometricDistortion(probability=0.0)(sample, Draws.alone(1)).image is sample.image
    turned = PhotometricDistortion(0, 0, 0, 0.2, 1.0)(sample, Draws.alone(1)).image
    assert turned.getpixel((0, 0)) == (114, 114, 114) and turned.getpixel((20, 30)) != RED


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_mosaic_boxes_enclose_their_colors(seed: int) -> None:
    """Four pictures, some with a blue object: every box is full of one color, to its very edges."""
    blue = painted(50, 90, (5, 5, 45, 85))
    blue.image.paste(BLUE, (5, 5, 45, 85))
    blue.instances = replace(blue.instances, labels=np.array([2]))
    made = Mosaic(SIZE, others=[painted(), blue])(painted(), Draws.alone(seed))
    assert made.image.size == (80, 60) and (made.image_id, made.orig_size) == (5, (60, 80))
    pixels = np.asarray(made.image).astype(int)
    colored = np.zeros(pixels.shape[:2], dtype=bool)
    for (left, top, right, bottom), label in zip(
        made.boxes_xyxy.round().astype(int), made.labels, strict=True
    ):
        inside = pixels[top + 2 : bottom - 2, left + 2 : right - 2]
        assert (inside == (RED if label == 1 else BLUE)).all()
        colored[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
    # What no box covers is grey, but for the few pixels of objects hardly visible.
    assert (np.ptp(pixels, axis=2)[~colored] > 80).sum() < 0.1 * 80 * 60


def test_mosaic_alone_says_what_it_needs() -> None:
    with pytest.raises(FocusDetrError, match="TransformedDataset"):
        Mosaic(SIZE)(painted(), Draws.alone(0))


@pytest.mark.parametrize("name", ["none", "detr", "small-data"])
@given(st.integers(0, 2**32), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_images_of_one_shape_get_one_size_in_a_batch(name: str, batch: int, more: int) -> None:
    recipe = build_transforms(name, size=SIZE, **({"mosaic": 0.0} if name == "small-data" else {}))
    sizes = set()
    # 4:3, but for a few pixels, and at other resolutions.
    for index, (width, height) in enumerate([(640, 480), (640, 480 + more), (500 - more, 375), (1024, 768)]):
        draws = Draws(np.random.default_rng(index), np.random.default_rng(batch), together=True)
        assert shape_of(height, width) == shape_of(480, 640)
        sizes.add(recipe(painted(width, height), draws).image.size)
    assert len(sizes) == 1


def test_an_image_changes_shape_by_three_per_cent_at_most_to_be_in_a_batch() -> None:
    for height, width in [(100, 100), (480, 640), (427, 640), (640, 427), (100, 777), (1000, 30)]:
        draws = Draws(np.random.default_rng(0), np.random.default_rng(0), together=True)
        size = {"shortest_edge": 800, "longest_edge": 1333}
        made, alone = draws.target_size(height, width, size), Draws.alone(0).target_size(height, width, size)
        assert made[0] / made[1] == pytest.approx(height / width, rel=0.05 if min(alone) < 100 else 0.034)
        assert max(made) <= 1333 and (height >= width) == (made[0] >= made[1])

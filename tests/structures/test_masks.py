"""Masks: what is decoded, encoded and traced is what pycocotools and plain bitmaps say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_detr.errors import FocusDetrError
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array, box_mask

STAR = [
    10.0,
    2.0,
    13.5,
    9.0,
    21.0,
    9.5,
    15.0,
    14.0,
    18.0,
    21.5,
    10.0,
    17.0,
    3.0,
    21.0,
    5.0,
    13.0,
    1.0,
    8.5,
    7.0,
    9.0,
]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
@settings(max_examples=60, deadline=None)
def test_a_bitmap_anywhere_in_a_picture_has_the_run_lengths_of_pycocotools(seed: int, share: float) -> None:
    from pycocotools import mask as reference

    rng = np.random.default_rng(seed)
    height, width, below, right = rng.integers(1, 12, 4).tolist()
    whole = np.zeros((height + below, width + right), dtype=bool)
    left, top = int(rng.integers(right + 1)), int(rng.integers(below + 1))
    part = rng.random((height, width)) < share
    whole[top : top + height, left : left + width] = part
    mask = Mask.of_bitmap(part, whole.shape, (left, top))
    np.testing.assert_array_equal(mask.decode(whole.shape), whole)
    expected = reference.encode(np.asfortranarray(whole.astype(np.uint8)))
    assert mask.to_coco(whole.shape) == {"size": list(whole.shape), "counts": expected["counts"].decode()}


def test_every_form_of_a_coco_segmentation_is_decoded_as_pycocotools_does() -> None:
    from pycocotools import mask as reference

    runs = reference.frPyObjects([STAR, [22.0, 2.0, 28.0, 2.0, 28.0, 6.0]], 24, 30)
    expected = reference.decode(reference.merge(runs)).astype(bool)
    columns = expected.T.reshape(-1)
    counts = np.diff(np.r_[0, np.flatnonzero(columns[1:] != columns[:-1]) + 1, len(columns)]).tolist()
    compressed = reference.encode(np.asfortranarray(expected.astype(np.uint8)))["counts"].decode()
    forms = (
        [STAR, [22.0, 2.0, 28.0, 2.0, 28.0, 6.0]],
        {"size": [24, 30], "counts": counts},
        {"size": [24, 30], "counts": compressed},
    )
    for form in forms:
        np.testing.assert_array_equal(Mask.of_coco(form).decode((24, 30)), expected)
    np.testing.assert_array_equal(Mask.of_coco(STAR).decode((24, 30)), Mask.of_coco([STAR]).decode((24, 30)))


@pytest.mark.parametrize(
    "segmentation",
    [[], [[1, 2, 3, 4]], [["a"] * 6], [[1.0, float("nan")] * 3], {"size": [4, 4], "counts": [3, 2]},
     {"size": [4, 4], "counts": "zzzzqq"}, {"size": [0, 0], "counts": []}, {"size": [5, 0], "counts": "0"},
     {"size": [-1, -1], "counts": [1]}, {"size": [4, 4], "counts": [20, -4]},
     {"size": [4, 4], "counts": [15.5, 0.5]}, {"size": [10**5, 10**5], "counts": [10**10]}],
)  # fmt: skip
def test_what_is_no_segmentation_is_refused(segmentation: object) -> None:
    with pytest.raises(FocusDetrError):
        Mask.of_coco(segmentation)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_flips_and_crops_of_run_lengths_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bitmap = rng.random((17, 23)) < 0.4
    mask = Mask.of_bitmap(bitmap)
    for _ in range(4):
        height, width = bitmap.shape
        if rng.random() < 0.3:
            bitmap, mask = bitmap[:, ::-1], mask.transform((width, height), (-1, 1), (width, 0))
        elif rng.random() < 0.5:
            bitmap, mask = bitmap[::-1], mask.transform((width, height), (1, -1), (0, height))
        else:
            top, left = rng.integers(height), rng.integers(width)
            bitmap = bitmap[top:, left:]
            mask = mask.transform(bitmap.shape[::-1], shift=(-left, -top))
        np.testing.assert_array_equal(mask.decode(bitmap.shape), bitmap)


def test_what_a_crop_cut_off_does_not_come_back() -> None:
    mask = Mask.of_coco(STAR).transform((8, 24), shift=(0, 0)).transform((40, 40), shift=(10, 5))
    there = np.zeros((40, 40), dtype=bool)
    there[5:29, 10:18] = Mask.of_coco(STAR).decode((24, 30))[:, :8]
    assert (mask.decode((40, 40)) != there).sum() <= 2 * 24  # at its outline
    assert not mask.decode((40, 40))[:, 18:].any()


def test_a_grid_says_how_much_of_each_cell_of_a_box_is_covered() -> None:
    bitmap = np.zeros((40, 60), dtype=bool)
    bitmap[10:20, 20:50] = True
    bitmap[10:15, 20:35] = False
    for mask in (Mask.of_bitmap(bitmap), Mask.of_bitmap(bitmap).transform((30, 20), (0.5, 0.5))):
        factor = 1 if mask.window is None else 0.5
        grid = mask.grid(np.array([20, 10, 50, 20]) * factor, cells=10)
        expected = np.full((10, 10), 255)
        expected[:5, :5] = 0
        np.testing.assert_array_equal(grid, expected)
    half = Mask.of_bitmap(bitmap).grid(np.array([10, 5, 50, 25]), cells=1)
    assert half.item() == pytest.approx(255 * bitmap.sum() / (40 * 20), abs=8)


def test_outlines_go_around_the_pixels_and_fill_holes() -> None:
    bitmap = np.zeros((20, 30), dtype=bool)
    bitmap[0:10, 5:20] = True
    bitmap[5:7, 8:12] = False
    bitmap[15:, 25:] = True
    outer, inner = Mask.of_bitmap(bitmap).outlines(bitmap.shape)
    assert [*outer.min(0), *outer.max(0)] == [5, 0, 20, 10]
    assert [*inner.min(0), *inner.max(0)] == [25, 15, 30, 20]
    filled = bitmap.copy()
    filled[5:7, 8:12] = True
    drawn = Mask.of_rings([outer.reshape(-1), inner.reshape(-1)]).decode(bitmap.shape)
    assert (drawn != filled).sum() <= 8  # corners are cut


def test_masks_follow_their_objects_through_selection_and_joining() -> None:
    boxes = np.array([[0, 0, 8, 8], [4, 4, 12, 12]], dtype=np.float32)
    masks = [box_mask(box) for box in boxes]
    some = Instances(boxes, np.array([0, 1]), masks=as_array(masks))
    joined = Instances.concatenate([some[[1]], Instances.empty(), some[:1].copy()])
    assert joined.masks is not None and joined.masks.tolist() == [masks[1], masks[0]]
    moved = some.transform((20, 20), scale=(2, 2), shift=(-8, -8))
    assert moved.masks is not None
    for mask, box in zip(moved.masks, moved.boxes_xyxy, strict=True):
        np.testing.assert_array_equal(mask.decode((20, 20)), box_mask(box).decode((20, 20)))
    unknown = Instances(boxes, np.array([0, 1]), masks=as_array([None, masks[1]])).transform((9, 9))
    assert unknown.masks is not None and unknown.masks[0] is None

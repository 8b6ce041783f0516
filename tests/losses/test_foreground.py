"""Foreground labels and loss against spec 1.9 written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_detr.losses.focal import sigmoid_focal_loss
from focus_detr.losses.foreground import foreground_loss, foreground_targets
from focus_detr.models.geometry import Geometry

STRIDES, RANGES = (8, 16, 32, 64), (64.0, 128.0, 256.0)
SHAPES = [(40, 48), (20, 24), (10, 12), (5, 6)]
HEIGHT, WIDTH = 320, 384
GEOMETRY = Geometry.unpadded(SHAPES, 1, torch.device("cpu"))
BOUNDS = [(-1, 64), (64, 128), (128, 256), (256, 999999)]


def label(*boxes_xyxy):
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float64).view(-1, 4)
    scale = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    cxcywh = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1) / scale
    return {"boxes": cxcywh, "size": torch.tensor([HEIGHT, WIDTH])}


def written_out(boxes):
    found = []
    for (height, width), stride, (low, high) in zip(SHAPES, STRIDES, BOUNDS, strict=True):
        for i in range(height):
            for j in range(width):
                x, y = j * stride + stride // 2, i * stride + stride // 2
                sides = [(x - a, y - b, c - x, d - y) for a, b, c, d in boxes]
                found.append(any(min(s) > 0 and low < max(s) <= high for s in sides))
    return found


def targets(*boxes):
    return foreground_targets(GEOMETRY, STRIDES, RANGES, [label(*boxes)])[0]


# Sides off the grid of token centres, which are whole numbers: no comparison hangs on rounding.
side = st.integers(0, 600).map(lambda n: n / 2 + 0.25)
box = st.tuples(side, side, side, side).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@settings(max_examples=25, deadline=None)
@given(st.lists(box, min_size=0, max_size=3))
def test_labels(boxes):
    assert targets(*boxes).tolist() == written_out(boxes)


def test_a_small_box_is_the_finest_level_s():
    per_level = [int(level.sum()) for level in targets((100, 100, 150, 150)).split(GEOMETRY.lengths)]
    assert per_level[0] > 0 and per_level[1:] == [0, 0, 0]


def test_a_large_box_is_hollow_at_fine_levels():
    finest = targets((10, 10, 370, 310)).split(GEOMETRY.lengths)
    assert not finest[0].any()  # no point of it is within 64 pixels of all four sides
    assert finest[3].any()


def test_loss_is_per_image_over_its_positives():
    scores = torch.randn(2, 6, dtype=torch.float64)
    truth = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    focal = sigmoid_focal_loss(scores, truth.double(), 0.25, 2.0)
    expected = (focal[0].sum() / 2 + focal[1].sum() / 1) / 2
    torch.testing.assert_close(foreground_loss(scores, truth, None, 0.25, 2.0), expected)


@pytest.mark.parametrize("value", [-50.0, 0.0, 50.0])
def test_padding_does_not_count(value):
    scores = torch.randn(1, 6)
    padded = torch.cat([scores, torch.full((1, 3), value)], 1)
    truth = torch.tensor([[1, 0, 0, 0, 0, 0, 1, 0, 0]], dtype=torch.bool)
    valid = torch.arange(9)[None] < 6
    found = foreground_loss(padded, truth, valid, 0.25, 2.0)
    torch.testing.assert_close(found, foreground_loss(scores, truth[:, :6], None, 0.25, 2.0))

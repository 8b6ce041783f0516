"""Salience labels and loss against spec 4.5 written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_detr.losses.focal import sigmoid_focal_loss
from focus_detr.losses.salience import salience_loss, salience_targets
from focus_detr.structures.geometry import Geometry

RANGES = (64.0, 128.0, 256.0)
BOUNDS = [(-1, 64), (64, 128), (128, 256), (256, 999999)]
SHAPES = [(13, 16), (7, 8), (4, 4), (2, 2)]  # of 104x128: the last level's cells are 52x64 pixels
HEIGHT, WIDTH = 104, 128
GEOMETRY = Geometry.unpadded(SHAPES, 1, torch.device("cpu"))


def label(*boxes_xyxy, size=(HEIGHT, WIDTH)):
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float64).view(-1, 4)
    scale = torch.tensor(size[::-1] * 2)
    cxcywh = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1) / scale
    return {"class_labels": torch.zeros(len(boxes)).long(), "boxes": cxcywh, "size": torch.tensor(size)}


def written_out(boxes):
    found = []
    for (rows, columns), (low, high) in zip(SHAPES, BOUNDS, strict=True):
        for i in range(rows):
            for j in range(columns):
                x, y = (j + 0.5) * WIDTH / columns, (i + 0.5) * HEIGHT / rows
                best, answered = 0.0, False
                for a, b, c, d in boxes:
                    left, top, right, bottom = x - a, y - b, c - x, d - y
                    if min(left, top, right, bottom) <= 0:
                        continue
                    off = math.hypot((left - right) / (left + right), (top - bottom) / (top + bottom))
                    best = max(best, 1 - off / 2)
                    answered |= low < max(left, top, right, bottom) <= high
                found.append(best if answered else 0.0)
    return found


# Sides off the grid of token centres: no comparison hangs on rounding.
side = st.integers(0, 250).map(lambda n: n / 2 + 0.123)
box = st.tuples(side, side, side, side).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@settings(max_examples=40, deadline=None)
@given(st.lists(box, max_size=3))
def test_labels(boxes):
    found = salience_targets(GEOMETRY, RANGES, [label(*boxes)])[0]
    # Places are float32, and small boxes far out feel it.
    assert found.tolist() == pytest.approx(written_out(boxes), abs=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_labels_do_not_depend_on_scale(scale):
    # The same place in a box twice as large, seen by a level that answers for all sizes.
    size = (64 * scale, 64 * scale)
    geometry = Geometry.unpadded([(8, 8)], 1, torch.device("cpu"))
    found = salience_targets(geometry, (), [label((0, 0, 64 * scale, 64 * scale), size=size)])
    alone = salience_targets(geometry, (), [label((0, 0, 64, 64), size=(64, 64))])
    assert torch.equal(found, alone) and 0.29 < found.min() < found.max() < 1


def test_cells_can_be_parts_of_the_padded_canvas():
    # 100x90 pixels on a canvas of 104x128, whose last level has cells of 52x64.
    sizes = torch.tensor([[[13, 12], [7, 6], [4, 3], [2, 2]]])
    boxes = [(10.3, 5.2, 88.1, 95.7), (40.2, 60.1, 70.7, 90.9)]
    found = salience_targets(
        Geometry.padded(SHAPES, sizes), RANGES, [label(*boxes, size=(100, 90))], canvas=(HEIGHT, WIDTH)
    )
    assert found[0].tolist() == pytest.approx(written_out(boxes), abs=1e-5)
    own = salience_targets(Geometry.padded(SHAPES, sizes), RANGES, [label(*boxes, size=(100, 90))])
    assert not torch.equal(found, own)


def test_each_image_has_its_own_boxes_and_size():
    geometry = Geometry.padded([(8, 8)], torch.tensor([[[8, 8]], [[4, 4]], [[8, 8]]]))
    boxes = [label((8, 8, 56, 56), size=(64, 64)), label((4, 4, 28, 28), size=(32, 32)), label(size=(64, 64))]
    found = salience_targets(geometry, (), boxes).view(3, 8, 8)
    own = salience_targets(
        Geometry.unpadded([(4, 4)], 1, torch.device("cpu")), (), [label((4, 4, 28, 28), size=(32, 32))]
    )
    assert found[0].any() and torch.equal(found[1, :4, :4], own.view(4, 4)) and not found[2].any()


def test_a_box_without_extent_has_no_tokens():
    found = salience_targets(GEOMETRY, RANGES, [label((4, 4, 4, 4))])
    assert not found.any()


def test_loss_is_over_the_positives_of_the_batch():
    scores = torch.randn(2, 4, dtype=torch.float64)
    truth = torch.tensor([[0.9, 0.4, 0, 0], [0.7, 0, 0, 0]], dtype=torch.float64)
    total = 0.0
    for score, t in zip(scores.flatten().tolist(), truth.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-score))
        entropy = -t * math.log(p) - (1 - t) * math.log(1 - p)
        total += (t * 0.25 * (1 - p) ** 2 + (1 - t) * 0.75 * p**2) * entropy
    assert salience_loss(scores, truth, None, 0.25, 2.0).item() == pytest.approx(total / 3, rel=1e-12)


def test_with_hard_labels_it_is_the_focal_loss():
    scores, truth = torch.randn(1, 9), torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0, 0]])
    expected = sigmoid_focal_loss(scores, truth, 0.25, 2.0).sum() / 2
    torch.testing.assert_close(salience_loss(scores, truth, None, 0.25, 2.0), expected)


def test_it_stays_finite():
    scores = torch.full((1, 4), 60.0, requires_grad=True)
    loss = salience_loss(scores, torch.tensor([[0.5, 1, 0, 0]]), None, 0.25, 2.0)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()
    assert salience_loss(scores.detach(), torch.zeros(1, 4), None, 0.25, 2.0).isfinite()


@pytest.mark.parametrize("value", [-50.0, 0.0, 50.0])
def test_padding_does_not_count(value):
    scores, truth = torch.randn(1, 6), torch.tensor([[0.8, 0, 0, 0, 0, 0]])
    padded = torch.cat([scores, torch.full((1, 2), value)], 1)
    marked = torch.cat([truth, torch.ones(1, 2)], 1)
    found = salience_loss(padded, marked, torch.arange(8)[None] < 6, 0.25, 2.0)
    torch.testing.assert_close(found, salience_loss(scores, truth, None, 0.25, 2.0))

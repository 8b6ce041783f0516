"""Foreground labels and loss against spec 1.9 written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from focus_detr.losses.focal import sigmoid_focal_loss
from focus_detr.losses.foreground import foreground_loss, foreground_targets, graded_targets
from focus_detr.losses.salience import salience_targets
from focus_detr.structures.geometry import Geometry

STRIDES, RANGES = (8, 16, 32, 64), (64.0, 128.0, 256.0)
SHAPES = [(40, 48), (20, 24), (10, 12), (5, 6)]
HEIGHT, WIDTH = 320, 384
GEOMETRY = Geometry.unpadded(SHAPES, 1, torch.device("cpu"))
BOUNDS = [(-1, 64), (64, 128), (128, 256), (256, 999999)]


def label(*boxes_xyxy, size=(HEIGHT, WIDTH)):
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float64).view(-1, 4)
    scale = torch.tensor(size[::-1] * 2)
    cxcywh = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1) / scale
    return {"class_labels": torch.zeros(len(boxes)).long(), "boxes": cxcywh, "size": torch.tensor(size)}


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


class Largest(TorchDispatchMode):
    """Within the block, how many numbers the largest tensor made holds."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def foreground(geometry, labels):
    return foreground_targets(geometry, STRIDES, RANGES, labels)


def salience(geometry, labels):
    return salience_targets(geometry, RANGES, labels)


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


@pytest.mark.parametrize("far", [64, 65, 128, 129, 256, 257])
@pytest.mark.parametrize("level", range(4))
def test_upper_bounds_belong_to_their_level(level, far):
    size = 512  # a power of two, so that nothing is rounded
    shapes = [(size // stride, size // stride) for stride in STRIDES]
    geometry = Geometry.unpadded(shapes, 1, torch.device("cpu"))
    centre = 2 * STRIDES[level] + STRIDES[level] // 2
    box = label((centre - 1, centre - 1, centre + far, centre + 1), size=(size, size))
    found = foreground_targets(geometry, STRIDES, RANGES, [box])[0].split(geometry.lengths)[level]
    low, high = BOUNDS[level]
    assert found.view(shapes[level])[2, 2] == (low < far <= high)


def test_each_image_has_its_own_boxes_and_size():
    geometry = Geometry.unpadded(SHAPES, 3, torch.device("cpu"))
    first, small, empty = label((100, 100, 150, 150)), label((100, 100, 150, 150)), label()
    small["size"] = small["size"] // 2  # the same relative boxes in an image of half the size
    found = foreground_targets(geometry, STRIDES, RANGES, [first, small, empty])
    assert torch.equal(found[0], targets((100, 100, 150, 150)))
    assert torch.equal(found[1], targets((50, 50, 75, 75))) and found[1].any()
    assert found.shape == (3, GEOMETRY.num_tokens) and not found[2].any()


def test_a_large_box_is_hollow_at_fine_levels():
    finest = targets((10, 10, 370, 310)).split(GEOMETRY.lengths)
    assert not finest[0].any()  # no point of it is within 64 pixels of all four sides
    assert finest[3].any()
    # At the next level only points within 128 pixels of all sides would count: there are none either.
    assert not finest[1].any()


@pytest.mark.parametrize("labels_of", [foreground, salience])
def test_a_crowd_takes_no_number_for_each_token_and_box(labels_of):
    crowd = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 0.5
    shapes = [(100, 134), (50, 67), (25, 34), (13, 17)]
    geometry = Geometry.unpadded(shapes, 2, torch.device("cpu"))
    label = {"class_labels": torch.zeros(500).long(), "boxes": crowd, "size": torch.tensor([800, 1072])}
    with Largest() as made:
        found = labels_of(geometry, [label, label])
    assert found.any()
    assert made.largest <= 4.2e6 < 2 * geometry.num_tokens * 500 / 4


def test_loss_is_per_image_over_its_positives():
    scores = torch.randn(2, 6, dtype=torch.float64)
    truth = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    focal = sigmoid_focal_loss(scores, truth.double(), 0.25, 2.0)
    expected = (focal[0].sum() / 2 + focal[1].sum() / 1) / 2
    torch.testing.assert_close(foreground_loss(scores, truth, None, 0.25, 2.0), expected)
    naive = foreground_loss(scores, truth, None, 0.25, 2.0, naive=True)
    torch.testing.assert_close(naive, expected)
    saturated = torch.full((1, 6), 40.0)
    assert foreground_loss(saturated, truth[1:], None, 0.25, 2.0).isfinite()
    assert not foreground_loss(saturated, truth[1:], None, 0.25, 2.0, naive=True).isfinite()


@pytest.mark.parametrize("value", [-50.0, 0.0, 50.0])
def test_padding_does_not_count(value):
    scores = torch.randn(1, 6)
    padded = torch.cat([scores, torch.full((1, 3), value)], 1)
    truth = torch.tensor([[1, 0, 0, 0, 0, 0, 1, 0, 0]], dtype=torch.bool)
    valid = torch.arange(9)[None] < 6
    found = foreground_loss(padded, truth, valid, 0.25, 2.0)
    torch.testing.assert_close(found, foreground_loss(scores, truth[:, :6], None, 0.25, 2.0))


def test_grades_are_background_boundary_and_centre():
    box = (40.0, 60.0, 120.0, 140.0)
    graded = graded_targets(GEOMETRY, STRIDES, RANGES, [label(box)])[0]
    inside = targets(box)
    x, y = (torch.arange(n) * 8 + 4 for n in (48, 40))
    off = torch.maximum((x - 80).abs()[None].expand(40, -1), (y - 100).abs()[:, None])
    finest, answered = graded[: 40 * 48].view(40, 48), inside[: 40 * 48].view(40, 48)
    # A box of 80 pixels a side: its centre is 40 wide.
    assert torch.equal(finest, torch.where(answered, torch.where(off < 20, 1.0, 0.5), 0.0))
    assert set(graded.tolist()) == {0.0, 0.5, 1.0} and torch.equal(graded > 0, inside)


def test_a_token_in_the_centre_of_one_box_and_at_the_boundary_of_another_is_central():
    one, other = (40.0, 60.0, 120.0, 140.0), (70.0, 60.0, 150.0, 140.0)
    both = graded_targets(GEOMETRY, STRIDES, RANGES, [label(one, other)])
    each = [graded_targets(GEOMETRY, STRIDES, RANGES, [label(box)]) for box in (one, other)]
    assert torch.equal(both, torch.maximum(*each)) and not torch.equal(*each)


def test_grades_are_what_the_loss_draws_scores_to():
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    grades, valid = torch.tensor([[0.0, 0.5, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    optimizer = torch.optim.SGD([logits], 2.0)
    for _ in range(300):
        optimizer.zero_grad()
        foreground_loss(logits + 0.3, grades, valid, 0.25, 2.0).backward()
        optimizer.step()
    background, boundary, centre = (logits + 0.3).sigmoid()[0].tolist()
    assert background < 0.2 and centre > 0.6 and boundary == pytest.approx(0.5, abs=0.02)

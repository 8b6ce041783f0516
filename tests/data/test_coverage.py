from pathlib import Path

import numpy as np
import pytest

from focus_detr.data.coverage import box_coverage
from focus_detr.data.records import Record
from focus_detr.structures.instances import Instances


def record(boxes, **fields):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Record(Path("a.jpg"), 0, Instances(boxes, np.zeros(len(boxes), np.int64)), **fields)


def test_what_two_boxes_share_counts_once_and_pictures_count_alike():
    halves = record([[0, 0, 120, 50], [60, 0, 200, 50]], known_size=(200, 100))
    assert box_coverage([halves]) == 0.5
    quarter = record([[0.5, 0.5, 1.0, 1.0]], relative=True)
    nothing = record([], known_size=(10, 10))
    assert box_coverage([halves, quarter, nothing]) == pytest.approx((0.5 + 0.25) / 3)
    assert box_coverage([]) is None


def test_it_agrees_with_a_raster_of_pixels():
    draw = np.random.default_rng(0)
    corners = draw.uniform(0, 1, (9, 2, 2)) * [640, 480]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).round()
    raster = np.zeros((480, 640), bool)
    for left, top, right, bottom in boxes.astype(int):
        raster[top:bottom, left:right] = True
    assert box_coverage([record(boxes, known_size=(640, 480))]) == pytest.approx(raster.mean(), abs=1e-6)


def test_boxes_of_a_pixel_count():
    assert box_coverage([record([[300, 200, 301, 201]], known_size=(640, 480))]) == pytest.approx(
        1 / 640 / 480
    )

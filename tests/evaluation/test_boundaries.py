"""Boundary errors of masks: by their definition, the worst first, and drawn where they are."""

import numpy as np
import pytest
from PIL import Image

from focus_detr.evaluation.boundaries import boundary_errors, draw_worst, summary_of
from focus_detr.pictures.boundaries import FOUND, TRUTH, draw_boundaries
from focus_detr.pictures.boxes import eroded
from focus_detr.structures.masks import Mask

SIZE = (60, 80)  # a diagonal of 100: two pixels on either side are its boundary


def bitmap(left, top, right, bottom):
    covered = np.zeros(SIZE, dtype=bool)
    covered[top:bottom, left:right] = True
    return covered


def item(number, box, covered, **more):
    left, top, right, bottom = box
    said = {"id": number, "image_id": 1, "category_id": 7, "bbox": [left, top, right - left, bottom - top]}
    mask = {} if covered is None else {"segmentation": Mask.of_bitmap(covered).to_coco(SIZE)}
    return {**said, **mask, **more}


BOXES = [(5, 5, 25, 25), (40, 10, 70, 50), (5, 40, 20, 55), (30, 40, 38, 50)]
DRAWN = [bitmap(5, 5, 25, 25), bitmap(43, 10, 70, 50), bitmap(5, 40, 12, 55)]


@pytest.fixture
def truth(tmp_path):
    Image.new("RGB", SIZE[::-1], (200, 200, 200)).save(tmp_path / "a.png")
    objects = [item(number, box, bitmap(*box), iscrowd=0) for number, box in enumerate(BOXES)]
    images = [{"id": 1, "file_name": str(tmp_path / "a.png"), "width": SIZE[1], "height": SIZE[0]}]
    return {"images": images, "annotations": objects, "categories": [{"id": 7, "name": "thing"}]}


@pytest.fixture
def predictions():
    """Right, a little off, half of it, without a mask, and one that is not sure enough."""
    found = [item(n, box, mask, score=0.9) for n, (box, mask) in enumerate(zip(BOXES, DRAWN, strict=False))]
    return [*found, item(3, BOXES[3], None, score=0.8), item(4, BOXES[0], DRAWN[2], score=0.1)]


def test_errors_are_those_of_boundaries_the_worst_first(truth, predictions):
    errors = boundary_errors(truth, predictions, 0.5)
    assert [error.iou for error in errors] == pytest.approx([7 / 15, 27 / 30, 1.0])
    for error, number in zip(errors, (2, 1, 0), strict=True):
        edges = [mask & ~eroded(mask, 2) for mask in (bitmap(*BOXES[number]), DRAWN[number])]
        along = (edges[0] & edges[1]).sum() / (edges[0] | edges[1]).sum()
        assert error.boundary_iou == pytest.approx(min(error.iou, along)) and error.name == "thing"
    said = summary_of(errors)
    assert said["objects"] == 3 and said["boundary_iou"] < said["iou"] < 1


def test_what_differs_is_drawn_in_the_color_of_what_covers_it():
    grey = Image.new("RGB", SIZE[::-1], (128, 128, 128))
    truth, found = (Mask.of_bitmap(bitmap(*box)) for box in ((10, 10, 50, 50), (20, 10, 60, 50)))
    drawn = np.asarray(draw_boundaries(grey, truth, found, cell=300)).astype(float)
    columns = drawn.shape[1] * (np.array([15, 40, 55, 9.5]) - 0) / 70  # of pixels 0 to 70 of the picture
    missed, shared, extra, outside = drawn[drawn.shape[0] // 2, columns.astype(int)]
    np.testing.assert_allclose(missed, (128 + np.array(TRUTH)) / 2, atol=2)
    np.testing.assert_allclose(extra, (128 + np.array(FOUND)) / 2, atol=2)
    assert shared.tolist() == outside.tolist() == [128, 128, 128]
    for color in (TRUTH, FOUND):
        assert (drawn == color).all(-1).sum() > 300


def test_the_worst_are_one_picture_and_lost_files_none(truth, predictions, tmp_path):
    errors = boundary_errors(truth, predictions, 0.5)
    draw_worst(errors, tmp_path / "worst.jpg")
    with Image.open(tmp_path / "worst.jpg") as picture:
        assert picture.width > 3 * 360
    (tmp_path / "a.png").unlink()
    draw_worst(errors, tmp_path / "none.jpg")
    assert not (tmp_path / "none.jpg").exists()

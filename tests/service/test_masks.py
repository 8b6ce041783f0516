"""Answers of a service hold the masks of models that give them."""

import numpy as np
import pytest

from focus_detr.inference.results import Detections
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array

pytest.importorskip("fastapi")


def test_an_answer_holds_run_lengths_of_the_picture():
    from focus_detr.service.answers import Found
    from focus_detr.service.schema import Detection

    bitmap = np.zeros((20, 30), dtype=bool)
    bitmap[3:9, 4:20] = True
    boxes = np.array([[4, 3, 20, 9]], np.float32)
    objects = Instances(
        boxes, np.array([0]), np.array([0.9], np.float32), masks=as_array([Mask.of_bitmap(bitmap)])
    )
    found = Found(Detections("a", objects, ("cat",), (20, 30)), None, None, None)
    (said,) = found.to_dict()["detections"]
    answer = Detection.model_validate(said).model_dump(by_alias=True)
    np.testing.assert_array_equal(Mask.of_coco(answer["mask"]).decode((20, 30)), bitmap)
    bare = Instances(boxes, np.array([0]), np.array([0.9], np.float32))
    (said,) = Found(Detections("a", bare, ("cat",), (20, 30)), None, None, None).to_dict()["detections"]
    assert "mask" not in said

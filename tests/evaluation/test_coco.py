import contextlib
import copy
import io
import math

import numpy as np
import pytest

from focus_detr.evaluation.coco import coco_metrics
from helpers.scenes import CATEGORY_IDS, scene


def pycocotools(truth, predictions, categories=None):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(predictions)), "bbox")
        if categories is not None:
            evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


KEYS = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
KEYS += ["AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"]


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools(seed):
    truth, predictions = scene(seed)
    metrics = coco_metrics(truth, predictions)
    expected = pycocotools(truth, predictions).stats
    for key, value in zip(KEYS, expected, strict=True):
        assert metrics.summary[key] == pytest.approx(
            value if value > -1 else math.nan, abs=1e-6, nan_ok=True
        ), key


def test_classes_equal_pycocotools_and_keep_label_order():
    truth, predictions = scene(3)
    metrics = coco_metrics(truth, predictions)
    assert [row.name for row in metrics.per_class] == [f"class {category}" for category in CATEGORY_IDS]
    for row, category in zip(metrics.per_class[:3], CATEGORY_IDS[:3], strict=True):
        stats = pycocotools(truth, predictions, [category]).stats
        assert [row.ap, row.ap50, row.ap75, row.ar100] == pytest.approx(stats[[0, 1, 2, 8]], abs=1e-6)
        objects = [a for a in truth["annotations"] if a["category_id"] == category and not a["iscrowd"]]
        assert row.objects == len(objects) and row.images == len({a["image_id"] for a in objects})
    assert math.isnan(metrics.per_class[3].ap) and metrics.per_class[3].objects == 0


def test_precision_curves_are_those_at_iou_half():
    truth, predictions = scene(5)
    metrics = coco_metrics(truth, predictions)
    expected = pycocotools(truth, predictions).eval["precision"][0, :, :, 0, 2]  # classes by rising id
    for row, category in enumerate(CATEGORY_IDS[:3]):
        expected_row = expected[:, sorted(CATEGORY_IDS).index(category)]
        np.testing.assert_allclose(metrics.precision[row], expected_row, atol=1e-6)
    assert np.isnan(metrics.precision[3]).all()


def test_recall_of_300_sees_what_100_does_not():
    truth, _ = scene(0, crowds=False)
    truth["annotations"] = truth["annotations"][:1]
    target = truth["annotations"][0]
    wrong = [{"bbox": [390, 290, 5, 5], "score": 0.9 - index / 1000} for index in range(150)]
    found = [*wrong, {"bbox": target["bbox"], "score": 0.1}]
    predictions = [
        {**item, "image_id": target["image_id"], "category_id": target["category_id"]} for item in found
    ]
    summary = coco_metrics(truth, predictions).summary
    assert summary["AR100"] == 0 and summary["AR300"] == 1 and summary["AP"] == 0


def test_no_predictions_no_objects_no_images():
    truth, predictions = scene(1)
    assert coco_metrics(truth, []).summary["AP"] == 0
    nothing = {**truth, "annotations": []}
    metrics = coco_metrics(nothing, predictions)
    assert math.isnan(metrics.summary["AP"]) and metrics.objects == 0 and metrics.images == 6
    assert all(math.isnan(value) for value in coco_metrics(nothing, []).summary.values())
    assert math.isnan(coco_metrics({**nothing, "images": []}, []).summary["AP"])


def test_predictions_outside_the_data_set_do_not_count():
    truth, predictions = scene(2)
    strangers = [{**predictions[0], "image_id": 999}, {**predictions[0], "category_id": 999}]
    assert coco_metrics(truth, predictions + strangers).summary == coco_metrics(truth, predictions).summary


def test_inputs_are_left_as_they_were():
    truth, predictions = scene(4)
    before = copy.deepcopy((truth, predictions))
    coco_metrics(truth, predictions)
    assert (truth, predictions) == before

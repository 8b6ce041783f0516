import contextlib
import copy
import io
import math

import numpy as np
import pytest

from focus_detr.evaluation.coco import coco_metrics
from focus_detr.evaluation.comparison import Evaluated, compare
from focus_detr.evaluation.resampling import PrecisionOfDraws
from focus_detr.structures.masks import Mask, box_mask
from helpers.scenes import CATEGORY_IDS, scene


def pycocotools(truth, predictions, categories=None, kind="bbox"):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(predictions)), kind)
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


def scene_of_masks(seed):
    """Polygons, run lengths and crowds; what is found is a little off."""
    rng = np.random.default_rng(seed)
    categories = [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}]
    images = [
        {"id": number, "file_name": f"{number}.png", "width": 160, "height": 120} for number in range(6)
    ]
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    annotations, predictions = [], []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            middle, radius = rng.uniform(20, 100, 2), rng.uniform(4, 55) * rng.uniform(0.5, 1, 8)
            ring = np.stack([middle[0] + radius * np.cos(angles), middle[1] + radius * np.sin(angles)], 1)
            mask, crowd = Mask.of_rings([ring]), int(rng.random() < 0.15)
            bitmap = mask.decode((120, 160))
            if not bitmap.any():
                continue
            shape = (
                [ring.reshape(-1).tolist()] if rng.random() < 0.5 and not crowd else mask.to_coco((120, 160))
            )
            left, top = ring.min(0).tolist()
            box = [left, top, *(ring.max(0) - ring.min(0)).tolist()]
            category = int(rng.choice([3, 7]))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "bbox": box,
                 "area": float(bitmap.sum()), "iscrowd": crowd, "segmentation": shape}
            )  # fmt: skip
            moved = Mask.of_rings([ring + rng.normal(0, 2, 2)])
            found = category if rng.random() < 0.9 else 3
            predictions.append(
                {"image_id": image["id"], "category_id": found, "bbox": box, "score": float(rng.random()),
                 "segmentation": moved.to_coco((120, 160))}
            )  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": categories}, predictions


@pytest.mark.parametrize("seed", range(6))
def test_masks_equal_pycocotools(seed):
    truth, predictions = scene_of_masks(seed)
    metrics = coco_metrics(truth, predictions, masks=True)
    boxless = [{name: value for name, value in item.items() if name != "bbox"} for item in predictions]
    expected = pycocotools(truth, boxless, kind="segm").stats
    assert 0 < expected[0] < 1
    for key, value in zip(KEYS, expected, strict=True):
        assert metrics.summary[key] == pytest.approx(
            value if value > -1 else math.nan, abs=1e-6, nan_ok=True
        ), key


def test_objects_without_masks_are_neither_rewarded_nor_punished():
    truth, predictions = scene_of_masks(2)
    plain = [item for item in truth["annotations"] if not item["iscrowd"]]
    whole = coco_metrics({**truth, "annotations": plain}, predictions, masks=True).summary["AP"]
    unknown = {
        "id": 99,
        "image_id": 5,
        "category_id": 3,
        "bbox": [100, 80, 30, 30],
        "area": 900,
        "iscrowd": 0,
    }
    mask = box_mask(np.array([105, 85, 115, 95])).to_coco((120, 160))
    in_it = {"image_id": 5, "category_id": 3, "bbox": [105, 85, 10, 10], "score": 1.0, "segmentation": mask}
    with_it = {**truth, "annotations": [*plain, unknown]}
    assert coco_metrics(with_it, predictions, masks=True).summary["AP"] == pytest.approx(whole)
    assert coco_metrics(with_it, [in_it, *predictions], masks=True).summary["AP"] == pytest.approx(whole)
    without = [{name: value for name, value in in_it.items() if name != "segmentation"}, *predictions]
    assert coco_metrics(with_it, without, masks=True).summary["AP"] == pytest.approx(whole)


def test_draws_of_pictures_have_the_average_precision_of_their_masks():
    truth, predictions = scene_of_masks(1)
    found = PrecisionOfDraws(truth, predictions, masks=True)(np.ones((len(truth["images"]), 1)))
    expected = coco_metrics(truth, predictions, masks=True).summary
    for name, values in found.items():
        assert values[0] == pytest.approx(expected[name], abs=1e-9, nan_ok=True), name
    run = Evaluated("a", truth, predictions)
    both = compare([run], [run], draws=100).measures
    assert both["mask_AP"].a == pytest.approx(expected["AP"]) and both["mask_AP"].difference == 0
    boxes = [{name: value for name, value in item.items() if name != "segmentation"} for item in predictions]
    assert "mask_AP" not in compare([run], [Evaluated("b", truth, boxes)], draws=100).measures

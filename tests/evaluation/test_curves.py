import numpy as np
import pytest

from focus_detr.evaluation.coco import coco_metrics
from focus_detr.evaluation.curves import confusion_matrix, f1_curves
from helpers.scenes import scene


def annotated(objects, crowds=()):
    """Objects and crowds as (category, left, top, width, height) in one image."""
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": item[0],
            "bbox": list(item[1:]),
            "area": 1.0,
            "iscrowd": crowd,
        }
        for crowd, items in enumerate((objects, crowds))
        for i, item in enumerate(items, start=100 * crowd)
    ]
    categories = [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": [{"id": 1}], "annotations": annotations, "categories": categories}


def found(*items):
    """Predictions as (score, category, left, top, width, height)."""
    return [{"image_id": 1, "score": i[0], "category_id": i[1], "bbox": list(i[2:])} for i in items]


A, B, C = (0, 0, 10, 10), (50, 0, 10, 10), (100, 0, 10, 10)


def test_best_threshold_splits_right_from_wrong():
    truth = annotated([(5, *A), (2, *B)])
    both, cat, dog = f1_curves(truth, found((0.9, 5, *A), (0.6, 2, *B), (0.4, 2, *C), (0.3, 5, *C)))
    assert both.f1.max() == 1 and both.best_threshold == pytest.approx(0.5)
    assert cat.best_threshold == pytest.approx(0.6) and dog.best_threshold == pytest.approx(0.5)
    assert (both.objects, cat.objects, dog.objects) == (2, 1, 1)
    np.testing.assert_allclose(both.thresholds, [0.3, 0.4, 0.6, 0.9])
    np.testing.assert_allclose(both.precision, [2 / 4, 2 / 3, 1, 1])
    np.testing.assert_allclose(both.recall, [1, 1, 1, 0.5])


def test_equal_scores_pass_together():
    curve = f1_curves(annotated([(5, *A)]), found((0.5, 5, *A), (0.5, 5, *B)))[0]
    assert curve.thresholds.tolist() == [0.5] and curve.precision.tolist() == [0.5]


def test_no_threshold_where_nothing_is_right():
    nothing_found = f1_curves(annotated([(5, *A)]), [])
    nothing_there = f1_curves(annotated([]), found((0.5, 5, *A)))
    assert [curve.best_threshold for curve in nothing_found + nothing_there] == [None] * 6
    assert f1_curves({"images": [], "annotations": [], "categories": []}, [])[0].objects == 0


@pytest.mark.parametrize("seed", range(6))
def test_interpolated_curve_gives_the_ap50_of_coco(seed):
    truth, predictions = scene(seed)
    for index, item in enumerate(predictions):
        item["score"] += index * 1e-7  # COCO orders equal scores otherwise
    classes = f1_curves(truth, predictions)[1:]
    for row, curve in zip(coco_metrics(truth, predictions).per_class, classes, strict=True):
        if not curve.objects:
            assert np.isnan(row.ap50)
            continue
        levels = np.linspace(0, 1, 101)
        highest = [curve.precision[curve.recall >= level - 1e-12].max(initial=0) for level in levels]
        assert np.mean(highest) == pytest.approx(row.ap50, abs=1e-6)


def test_what_lies_in_a_crowd_of_its_class_does_not_count():
    crowd = (0, 0, 200, 200)
    predictions = found((0.9, 5, *A), (0.8, 2, *B), (0.7, 5, *C))
    both, cat, dog = f1_curves(annotated([(5, *A)], [(5, *crowd)]), predictions)
    assert cat.precision.tolist() == [1] and dog.precision.tolist() == [0]
    assert both.precision.tolist() == [0.5, 1]


def test_confusion_matrix():
    truth = annotated([(5, *A), (2, *B), (2, *C)])
    predictions = found((0.9, 5, *A), (0.8, 5, *B), (0.7, 5, 300, 0, 9, 9), (0.2, 2, *C))
    matrix = confusion_matrix(truth, predictions, threshold=0.5)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]
    assert confusion_matrix(truth, predictions, threshold=0.1)[1].tolist() == [1, 1, 0]


def test_a_right_detection_is_never_a_confusion():
    truth = annotated([(5, *A)])
    better_placed = found((0.9, 2, *A), (0.6, 5, 0, 0, 10, 8))
    assert confusion_matrix(truth, better_placed, 0.5).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_every_object_and_detection_is_in_the_matrix_once():
    truth, predictions = scene(9, crowds=False)
    matrix = confusion_matrix(truth, predictions, threshold=0.5)
    assert matrix[:-1].sum() == len(truth["annotations"])
    assert matrix[:, :-1].sum() == sum(item["score"] >= 0.5 for item in predictions)

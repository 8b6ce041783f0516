import numpy as np
import pytest

from focus_detr.evaluation.coco import coco_metrics
from focus_detr.evaluation.resampling import MEASURES, PrecisionOfDraws
from helpers.scenes import scene


def copied(truth, predictions, counts):
    """The data set and what was found in it, with so many copies of each picture, by rising id."""
    images, annotations, found = [], [], []
    for image, count in zip(sorted(truth["images"], key=lambda each: each["id"]), counts, strict=True):
        for _ in range(count):
            images.append({**image, "id": len(images) + 1})
            for items, copies in ((truth["annotations"], annotations), (predictions, found)):
                copies += [
                    {**each, "image_id": len(images)} for each in items if each["image_id"] == image["id"]
                ]
    annotations = [{**item, "id": number} for number, item in enumerate(annotations, 1)]
    return {**truth, "images": images, "annotations": annotations}, found


def without_ties(predictions, seed):
    scores = np.random.default_rng(seed).permutation(len(predictions)) / len(predictions)
    return [{**item, "score": float(score)} for item, score in zip(predictions, scores, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_has_the_ap_that_coco_gives_its_copies_of_pictures(seed):
    truth, predictions = scene(seed, images=8)
    predictions = without_ties(predictions, seed)
    draws = np.random.default_rng(seed).multinomial(8, np.full(8, 1 / 8), size=6).T
    found = PrecisionOfDraws(truth, predictions)(draws)
    for draw, counts in enumerate(draws.T):
        expected = coco_metrics(*copied(truth, predictions, counts)).summary
        for name in MEASURES:
            assert found[name][draw] == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("seed", range(6))
def test_the_pictures_as_they_are_have_cocos_ap_ties_and_crowds_too(seed):
    truth, predictions = scene(seed)
    found = PrecisionOfDraws(truth, predictions)(np.ones((6, 1), int))
    expected = coco_metrics(truth, predictions).summary
    for name in MEASURES:
        assert found[name][0] == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


def test_draws_beside_it_do_not_change_a_draw(monkeypatch):
    truth, predictions = scene(2)
    draws = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=9).T
    precision = PrecisionOfDraws(truth, predictions)
    together = precision(draws)
    monkeypatch.setattr("focus_detr.evaluation.resampling._AT_ONCE", 1)
    for name, values in precision(draws).items():
        np.testing.assert_array_equal(values, together[name])


def test_nothing_found_is_zero_and_nothing_to_find_is_not_a_number():
    truth, predictions = scene(1)
    ones = np.ones((6, 1), int)
    assert PrecisionOfDraws(truth, [])(ones)["AP"] == 0
    assert np.isnan(PrecisionOfDraws({**truth, "annotations": []}, predictions)(ones)["AP"])
    nowhere = np.zeros((6, 1), int)
    assert np.isnan(PrecisionOfDraws(truth, predictions)(nowhere)["AP"])

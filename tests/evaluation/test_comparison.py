import json

import numpy as np
import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.coco import coco_metrics
from focus_detr.evaluation.comparison import Evaluated, compare, read_evaluated
from helpers.scenes import scene


def pictures(generator, count, classes=3):
    """Ground truth of a row of like objects a picture."""
    annotations = [
        {
            "image_id": image,
            "category_id": int(generator.integers(classes)),
            "bbox": [100.0 * place, 0.0, 50.0, 50.0],
        }
        for image in range(count)
        for place in range(generator.poisson(2.5))
    ]
    annotations = [{**a, "id": n, "area": 2500.0, "iscrowd": 0} for n, a in enumerate(annotations, 1)]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 3000, "height": 50} for n in range(count)]
    categories = [{"id": n, "name": f"class {n}"} for n in range(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def run(generator, truth, found, hardness):
    """What a detector sees that finds this share of objects, fewer in hard pictures (P,)."""
    predictions = []
    for item in truth["annotations"]:
        if generator.random() < found - hardness[item["image_id"]]:
            left, *rest = item["bbox"]
            box, score = [left + generator.normal(0, 4), *rest], generator.beta(4, 2)
            place = {"image_id": item["image_id"], "category_id": item["category_id"]}
            predictions.append({**place, "bbox": box, "score": float(score)})
    for image in truth["images"]:
        for _ in range(generator.poisson(2)):
            box = [100.0 * generator.integers(20, 25), 0.0, 50.0, 50.0]
            place = {"image_id": image["id"], "category_id": int(generator.integers(3))}
            predictions.append({**place, "bbox": box, "score": float(generator.beta(2, 4))})
    return Evaluated("a folder", truth, predictions)


def sides(generator, count, runs, gap, spread):
    """Runs of two ways to train, of which one finds ``gap`` more; runs differ by ``spread``."""
    truth, hardness = pictures(generator, count), generator.uniform(0, 0.5, count)
    return [
        [run(generator, truth, share + spread * generator.normal(), hardness) for _ in range(runs)]
        for share in (0.8, 0.8 + gap)
    ]


@pytest.fixture(scope="module")
def true_difference():
    """Of AP, on so many pictures that chance has no say."""
    (a,), (b,) = sides(np.random.default_rng(1), 4000, 1, 0.05, 0.0)
    ap = [coco_metrics(side.ground_truth, side.predictions).summary["AP"] for side in (a, b)]
    return ap[1] - ap[0]


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "spread"), [(1, 0.0), (3, 0.0), (3, 0.05)])
def test_intervals_hold_the_true_difference_about_as_often_as_they_say(true_difference, runs, spread):
    generator = np.random.default_rng(7)
    trials, held = 150, 0
    for seed in range(trials):
        a, b = sides(generator, 40, runs, 0.05, spread)
        found = compare(a, b, draws=200, confidence=0.9, seed=seed).measures["AP"]
        held += found.low <= true_difference <= found.high
    # Three standard errors of 150 trials at 0.9 are 0.073.
    assert 0.82 <= held / trials <= 0.98


def test_a_difference_of_some_size_is_seen_and_named():
    a, b = sides(np.random.default_rng(0), 150, 1, 0.3, 0.0)
    forth, back = compare(a, b, draws=200), compare(b, a, draws=200)
    assert forth.measures["AP"].verdict == "b is better" and forth.measures["AP"].low > 0
    assert back.measures["AP"].verdict == "a is better"
    assert back.measures["AP"].difference == -forth.measures["AP"].difference
    assert "b is better" in forth.summary() and "150 images" in forth.summary()
    assert np.isnan(forth.measures["AP_large"].low) and forth.to_dict()["measures"]["AP_large"]["low"] is None


def test_a_model_is_not_better_than_itself():
    a, _ = sides(np.random.default_rng(0), 30, 1, 0.0, 0.0)
    found = compare(a, a, draws=100).measures["AP"]
    assert (found.difference, found.low, found.high) == (0, 0, 0) and found.verdict == "not told apart"


def test_pairing_makes_what_pictures_do_to_both_sides_go_away():
    truth, predictions = scene(0, images=40)
    worse = [item for number, item in enumerate(predictions) if number % 10]
    found = compare([Evaluated("a", truth, predictions)], [Evaluated("b", truth, worse)], draws=200)
    ap = found.measures["AP"]
    from focus_detr.evaluation.resampling import PrecisionOfDraws

    draws = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=200).T
    alone = PrecisionOfDraws(truth, predictions)(draws)["AP"]
    assert ap.high - ap.low < np.subtract(*np.quantile(alone, [0.975, 0.025]))


def test_runs_that_differ_widen_the_interval():
    alike = sides(np.random.default_rng(3), 60, 3, 0.0, 0.0)
    apart = [alike[0], [alike[1][0], *sides(np.random.default_rng(3), 60, 3, -0.4, 0.0)[1][:2]]]
    apart[1] = [Evaluated("b", alike[0][0].ground_truth, each.predictions) for each in apart[1]]
    width = [
        found.high - found.low for found in (compare(*x, draws=200).measures["AP"] for x in (alike, apart))
    ]
    assert width[1] > 2 * width[0]


def test_the_same_seed_gives_the_same_answer():
    a, b = sides(np.random.default_rng(0), 20, 1, 0.1, 0.02)
    first, again, other = (compare(a, b, draws=100, seed=seed).measures["AP"] for seed in (1, 1, 2))
    assert first == again and first != other and first.difference == other.difference


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda truth: truth["images"].pop(), "pictures"),
        (lambda truth: truth["images"][0].update(file_name="other.jpg"), "pictures"),
        (lambda truth: truth["categories"][0].update(name="other"), "classes"),
        (lambda truth: truth["annotations"].pop(), "objects"),
        (lambda truth: truth["annotations"][0].update(bbox=[0, 0, 1, 1]), "objects"),
    ],
)
def test_what_is_not_of_the_same_pictures_is_refused(change, named):
    truth, predictions = scene(0)
    other, _ = scene(0)
    change(other)
    with pytest.raises(FocusDetrError, match=f"here and there are not of the same {named}"):
        compare([Evaluated("here", truth, predictions)], [Evaluated("there", other, predictions)])


def test_a_folder_that_moved_is_the_same():
    truth, predictions = scene(0)
    other, _ = scene(0)
    for image in other["images"]:
        image["file_name"] = f"/elsewhere/{image['file_name']}"
    compare([Evaluated("a", truth, predictions)], [Evaluated("b", other, predictions)], draws=100)


def test_runs_without_a_partner_and_useless_numbers_are_refused():
    one, none = Evaluated("a", *scene(0)), []
    for a, b in (([one, one], [one]), (none, none)):
        with pytest.raises(FocusDetrError, match="in pairs"):
            compare(a, b)
    with pytest.raises(FocusDetrError, match="draws=3"):
        compare([one], [one], draws=3)
    with pytest.raises(FocusDetrError, match="confidence=95"):
        compare([one], [one], confidence=95)
    empty = Evaluated("nothing", {**one.ground_truth, "images": []}, [])
    with pytest.raises(FocusDetrError, match="no picture"):
        compare([empty], [empty])


def test_a_folder_is_read_and_what_is_wrong_with_it_said(tmp_path):
    truth, predictions = scene(0)
    with pytest.raises(FocusDetrError, match="evaluate MODEL DATA --output"):
        read_evaluated(tmp_path)
    (tmp_path / "ground_truth.json").write_text(json.dumps(truth))
    (tmp_path / "predictions.json").write_text(json.dumps(predictions))
    for path in (tmp_path, tmp_path / "predictions.json"):
        found = read_evaluated(path)
        assert (found.ground_truth, found.predictions) == (truth, predictions)
    for damaged in ("{", "[1]", "{}"):
        (tmp_path / "predictions.json").write_text(damaged)
        with pytest.raises(FocusDetrError, match=r"predictions\.json"):
            read_evaluated(tmp_path)
    (tmp_path / "predictions.json").write_text("[]")
    (tmp_path / "ground_truth.json").write_text("[]")
    with pytest.raises(FocusDetrError, match=r"ground_truth\.json"):
        read_evaluated(tmp_path)

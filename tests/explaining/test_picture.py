import numpy as np
import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.explaining import explain_picture
from focus_detr.explaining.picture import Found, same_objects
from focus_detr.explaining.picture_html import explanation_html
from focus_detr.explaining.picture_page import explanation_page
from focus_detr.inference import Predictor
from focus_detr.inference.looking import places_looked_at
from helpers.explained import small_predictor as predictor
from helpers.fake_detector import FakeModel, plain_processor
from helpers.fake_detector import picture as fake_picture
from helpers.pictures import noise
from helpers.small_models import DETR

BUDGETS = (0.1, 0.4, 1.0)


def picture(width=120, height=96):
    return noise(width, height)


@pytest.fixture(scope="module")
def made():
    used, image = predictor(), picture()
    return used, image, explain_picture(used, image, budgets=BUDGETS, threshold=0.0, runs=1)


def test_its_own_view_is_what_it_does_when_nothing_is_said(made):
    used, image, found = made
    (detections,) = used.detect([image], threshold=0.0)
    own = found.own
    assert [each.label for each in own.objects] == detections.labels.tolist()
    np.testing.assert_allclose([each.box_xyxy for each in own.objects], detections.boxes_xyxy, rtol=1e-5)
    plan = used.run([image]).plan
    assert [layer.count for layer in own.layers] == list(plan.counts)
    assert own.budget == pytest.approx(sum(plan.counts) / len(plan.counts) / found.num_tokens)
    assert own.lost == [] and own.partners == list(range(len(own.objects)))


def test_each_view_keeps_the_tokens_of_its_budget(made):
    _, _, found = made
    assert [view.own for view in found.views].count(True) == 1
    assert [view.budget for view in found.views] == sorted([*BUDGETS, found.own.budget])
    for view in found.views:
        share = np.mean([layer.count for layer in view.layers]) / found.num_tokens
        assert share == pytest.approx(view.budget, abs=0.02)
        assert view.seconds > 0


def test_fine_grained_tokens_are_some_of_those_kept(made):
    for view in made[2].views:
        for layer in view.layers:
            fine, kept = np.concatenate([f.flatten() for f in layer.fine]), layer.kept
            kept = np.concatenate([level.flatten() for level in kept])
            assert fine.sum() == min(12, kept.sum()) and not (fine & ~kept).any()


def test_samples_are_those_of_the_query_that_found_the_object(made):
    used, image, found = made
    outputs = used.run([image], with_samples=True)
    (detections,) = used.decode(outputs, [image], threshold=0.0)
    places = places_looked_at(outputs, 0, detections.instances.queries, (image.height, image.width))
    for each, expected in zip(found.own.objects, places, strict=True):
        np.testing.assert_allclose(each.samples.points, expected[:, :2], atol=1e-3)
        assert each.samples.weights.sum() == pytest.approx(1)
    # Heads before levels before points: 4 heads, 4 levels, 4 points.
    first = found.own.objects[0].samples
    assert first.levels.tolist() == 4 * [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    weights = outputs.samples[-1][1][0, detections.instances.queries[0]]
    of_level = [first.weights[first.levels == level].sum() for level in range(4)]
    np.testing.assert_allclose(of_level, weights.sum((0, 2)) / 4, rtol=1e-4)


def test_an_object_is_the_same_where_class_and_place_agree_one_to_one():
    def found(label, left, score=0.5):
        return Found(label, score, (left, 0.0, left + 10.0, 10.0), None)

    reference = [found(0, 0), found(1, 50), found(0, 100)]
    # Near the first; of another class; twice near the third, of which the better takes it.
    others = [found(0, 2), found(0, 50), found(0, 101), found(0, 99)]
    assert same_objects(reference, others) == [0, None, 2, None]


def test_objects_that_a_budget_does_not_find_are_lost(made):
    used, image, found = made
    for view in found.views:
        matched = {place for place in view.partners if place is not None}
        assert view.lost == [i for i in range(len(found.own.objects)) if i not in matched]


def test_objects_must_reach_the_scores_of_their_classes_which_are_the_model_s_own():
    used, image = predictor(), picture()
    every = explain_picture(used, image, budgets=[], threshold=0.0, runs=1).own.objects
    label, least = every[0].label, every[-1].score
    name = used.class_names[label]
    used.threshold, used.class_thresholds = 0.0, {name: 0.999}
    found = explain_picture(used, image, budgets=[], runs=1)
    assert found.own.objects and {each.label for each in found.own.objects}.isdisjoint({label})
    assert found.threshold[name] == pytest.approx(0.999) and f"1.00 ({name})" in explanation_html(found)
    given = explain_picture(used, image, budgets=[], threshold={name: least}, runs=1)
    assert len(given.own.objects) == len(every)


def test_where_nothing_reaches_the_score_the_best_are_shown_and_a_note_says_so():
    found = explain_picture(predictor(), picture(), budgets=[0.1], threshold=1.0, runs=1)
    assert 1 <= len(found.own.objects) <= 5
    assert "Nothing reaches a score of 1.00" in found.notes["objects"]
    assert explanation_page(found).width == 1800


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, set()),
        ({"token_policy": "sparse"}, {"fine"}),
        ({"token_policy": "interleaved", "policy_options": {"blocks": 1}}, {"budgets", "scores", "fine"}),
        ({"token_policy": "dense"}, {"budgets", "scores", "fine", "kept"}),
        ({**DETR, "token_policy": "poll-and-pool"}, {"fine", "samples"}),
    ],
)
def test_what_a_policy_or_host_cannot_show_is_said(changes, missing):
    found = explain_picture(predictor(**changes), picture(), threshold=0.0, runs=1)
    assert set(found.notes) == missing
    assert (found.scores is None) is ("scores" in missing)
    assert (len(found.views) == 1) is ("budgets" in missing)
    shares = [layer.count / found.num_tokens for layer in found.own.layers]
    assert (shares == [1.0] * 3) is ("kept" in missing)


def test_budgets_said_to_a_model_that_takes_none_are_refused():
    with pytest.raises(FocusDetrError, match="leaves no tokens out"):
        explain_picture(predictor(token_policy="dense"), picture(), budgets=[0.3], runs=1)


class Exported:
    """A model in a file, which answers and says no more."""

    def infer(self, pixel_values, pixel_mask):
        raise AssertionError("it is refused before it is asked")


@pytest.mark.parametrize("model", [FakeModel(), Exported()])
def test_models_that_do_not_say_where_they_look_are_refused(model):
    used = Predictor(model, plain_processor(), class_names=["red", "green"])
    with pytest.raises(FocusDetrError, match="give the model that it was made from"):
        explain_picture(used, fake_picture())


def test_the_page_is_higher_the_more_there_is_to_show(made):
    found = made[2]
    dense = explain_picture(predictor(token_policy="dense"), picture(), threshold=0.0, runs=1)
    assert explanation_page(found).height > explanation_page(dense).height + 1000

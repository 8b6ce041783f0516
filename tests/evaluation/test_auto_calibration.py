"""The rule of automatic budgets, from evaluations at each budget and the pictures' scores."""

import pytest
import torch

from focus_detr.evaluation.auto_calibration import PictureScores, calibrate_auto, picture_scores
from focus_detr.evaluation.comparison import Evaluated
from focus_detr.structures.plan import TokenPlan
from helpers.scenes import scene
from helpers.small_models import batch, image, small_model

BUDGETS = (0.1, 0.3, 1.0)
TOKENS = 100


class Policy:
    """Works on the best share of tokens, in one layer; has no learned choice, or a perfect one."""

    def __init__(self, chooses=False):
        self.chooses = chooses

    def select(self, scores, geometry, budget):
        count = max(1, round(budget.share * geometry.num_tokens))
        return TokenPlan(scores, scores.argsort(1, descending=True)[:, :count], (count,), None)

    def parameters(self):
        return iter([torch.zeros(1)])

    def expects(self, scores, valid, budget):
        crowded = (scores > 0).sum(1) > 50
        return torch.where(crowded, budget, 1.0)


def picture(image_id, foreground):
    """Of 100 tokens so many are surely foreground."""
    scores = torch.full((TOKENS,), -6.0)
    scores[:foreground] = 6.0
    return PictureScores(image_id, [(10, 10)], scores, scores < 0)


@pytest.fixture
def found():
    """Crowded pictures (even ids) need the whole budget, the others find all with the smallest."""
    truth, _ = scene(0, images=20, crowds=False)
    crowded = {each["id"]: number % 2 == 0 for number, each in enumerate(truth["images"])}
    evaluated = {}
    for budget in BUDGETS:
        predictions = [
            {**{key: item[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
            for item in truth["annotations"]
            if budget == 1 or not crowded[item["image_id"]]
        ]
        evaluated[budget] = Evaluated(f"budget {budget}", truth, predictions)
    pictures = [picture(name, 90 if crowd else 5) for name, crowd in crowded.items()]
    return evaluated, pictures


def test_each_picture_has_what_it_needs_and_no_more(found):
    evaluated, pictures = found
    auto = calibrate_auto(Policy(), pictures, evaluated, 1.0, max_drop=0.001, draws=100)
    assert auto.pictures == {0.1: 10, 1.0: 10}
    assert auto.rule.buckets == BUDGETS and 0.3 < auto.rule.share <= 1
    # Tokens outside of boxes hardly score at all.
    assert auto.rule.background == pytest.approx(1 / (1 + 2.718281828**6), abs=1e-4)
    row = next(row for row in auto.rows if row.share == auto.rule.share)
    assert row.difference == 0 and row.mean_budget == pytest.approx(0.55)
    assert "0.1 in 10, 1 in 10 pictures" in auto.summary()
    assert auto.to_dict()["pictures"] == {"0.1": 10, "1": 10}


def test_the_learned_choice_is_kept_where_pictures_then_have_smaller_budgets(found):
    evaluated, pictures = found
    by_mass = calibrate_auto(Policy(), pictures, evaluated, 1.0, max_drop=0.001, draws=100)
    same = calibrate_auto(Policy(chooses=True), pictures, evaluated, 1.0, max_drop=0.001, draws=100)
    assert not same.learned and same.rule == by_mass.rule and same.other.rule.learned
    # All pictures are as full of what looks like foreground: by mass each has the whole budget.
    alike = [picture(each.image_id, 60 if (each.scores > 0).sum() > 50 else 50) for each in pictures]
    auto = calibrate_auto(Policy(chooses=True), alike, evaluated, 1.0, max_drop=0.001, draws=100)
    assert auto.learned and auto.rule.learned and auto.pictures == {0.1: 10, 1.0: 10}
    assert auto.other.mean_budget() > auto.mean_budget()
    assert "expected to keep" in auto.summary() and "Not taken" in auto.summary()
    assert auto.to_dict()["rule"]["learned"] and "learned" not in by_mass.to_dict()["rule"]


def test_more_may_be_lost_for_less_work(found):
    evaluated, pictures = found
    auto = calibrate_auto(Policy(), pictures, evaluated, 1.0, max_drop=0.9, draws=100)
    assert auto.pictures == {0.1: 20} or auto.pictures == {0.1: 10, 0.3: 10}
    assert auto.rule.share <= 1 / 3


def test_budgets_beyond_the_best_are_not_chosen(found):
    evaluated, pictures = found
    auto = calibrate_auto(Policy(), pictures, evaluated, 0.3, max_drop=0.0, draws=100)
    assert auto.rule.buckets == (0.1, 0.3)


def test_no_rule_where_even_the_whole_foreground_loses_too_much(found):
    evaluated, pictures = found
    blind = [picture(each.image_id, 0) for each in pictures]
    auto = calibrate_auto(Policy(), blind, evaluated, 1.0, max_drop=0.001, draws=100)
    assert auto.rule is None and "no rule" in auto.summary() and auto.to_dict()["rule"] is None


@torch.no_grad()
def test_a_picture_s_scores_are_its_own_whatever_its_batch():
    model = small_model()
    pictures = [image(160, 200), image(97, 130, seed=1)]
    label = {"boxes": torch.tensor([[0.25, 0.25, 0.5, 0.5]])}
    labels = [{**label, "image_id": number} for number in range(2)]
    pixels, mask = batch(pictures)
    together = picture_scores(model(pixels, mask), labels)
    for number, each in enumerate(pictures):
        output = model(each[None])
        (alone,) = picture_scores(output, labels[number : number + 1])
        assert alone.shapes == together[number].shapes == output.spatial_shapes
        torch.testing.assert_close(alone.scores, together[number].scores)
        torch.testing.assert_close(alone.scores, output.plan.scores[0].float())
        # A quarter of the picture is in the box.
        assert float(alone.outside.float().mean()) == pytest.approx(0.75, abs=0.05)

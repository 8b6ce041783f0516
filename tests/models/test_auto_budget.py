"""budget="auto": each picture has the smallest budget that holds enough of its foreground."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.benchmarking import count_macs
from focus_detr.deploy.deploy import deploy as deployment
from focus_detr.errors import FocusDetrError
from focus_detr.structures.auto_budget import AutoBudget, held
from focus_detr.structures.budget import Budget
from focus_detr.structures.plan import TokenPlan
from helpers.small_models import DETR, batch, image, labels, small_model

POLICIES = {
    "focus": {},
    "focus, reactivated": {"policy_options": {"reactivation": True}},
    "salience": {"token_policy": "salience", "policy_options": {"level_quotas": [0.3, 0.6, 1.0, 1.0]}},
    "sparse": {"token_policy": "sparse"},
    "poll-and-pool": {**DETR, "token_policy": "poll-and-pool"},
}
BUCKETS = (0.1, 0.2, 0.35, 0.6, 1.0)
PICTURES = [image(160, 200), image(160, 200, seed=3), image(97, 130, seed=1), image(64, 64, seed=2)]

every = pytest.mark.parametrize("policy", POLICIES)


def rule_of(model, share=0.5):
    """A rule that gives these pictures budgets of several kinds: background at the middle of their scores."""
    pixels, mask = batch(PICTURES)
    scores = model(pixels, mask).plan.scores.sigmoid()
    return AutoBudget(share, float(scores.median()), BUCKETS)


def spread(model):
    """A model whose pictures get different budgets, and the rule."""
    rule = rule_of(model)
    held_at = [alone(model, picture, budget=b).plan for picture in PICTURES for b in BUCKETS[:1]]
    shares = [float(held(p, rule.mass(p.scores, None))) for p in held_at]
    return AutoBudget(sorted(shares)[1] + 1e-3, rule.background, BUCKETS)


@torch.no_grad()
def alone(model, picture, **options):
    return model(picture[None], **options)


@every
@torch.no_grad()
def test_a_picture_has_the_smallest_bucket_that_holds_enough(policy):
    model = small_model(**POLICIES[policy])
    rule = spread(model)
    chosen = []
    for picture in PICTURES:
        auto = alone(model, picture, budget=rule)
        (budget,) = auto.plan.budgets
        for bucket in BUCKETS[: BUCKETS.index(budget)]:
            plan = alone(model, picture, budget=bucket).plan
            assert float(held(plan, rule.mass(plan.scores, None))) < rule.share
        fixed = alone(model, picture, budget=budget)
        mass = rule.mass(fixed.plan.scores, None)
        assert budget == BUCKETS[-1] or float(held(fixed.plan, mass)) >= rule.share - 1e-4
        assert auto.plan.counts == fixed.plan.counts and torch.equal(auto.logits, fixed.logits)
        chosen.append(budget)
    assert len(set(chosen)) > 1


@every
@torch.no_grad()
def test_a_picture_s_budget_and_answer_do_not_depend_on_its_batch(policy):
    model = small_model(**POLICIES[policy])
    rule = spread(model)
    for chosen in (PICTURES, PICTURES[:2], PICTURES[::-1]):
        pixels, mask = batch(chosen, extra=(33, 7) if len(chosen) > 2 else (0, 0))
        together = model(pixels, mask, budget=rule)
        for i, picture in enumerate(chosen):
            single = alone(model, picture, budget=rule)
            assert together.plan.budgets[i] == single.plan.budgets[0]
            for layer in range(len(single.plan.counts)):
                indices, rows = together.plan.kept(layer)
                assert int(rows[i].sum()) == single.plan.counts[layer]
            queries = single.logits.shape[1]
            torch.testing.assert_close(together.logits[i, :queries], single.logits[0], rtol=0, atol=1e-7)
            torch.testing.assert_close(
                together.pred_boxes[i, :queries], single.pred_boxes[0], rtol=0, atol=1e-7
            )


@torch.no_grad()
def test_an_empty_picture_costs_the_least_and_a_full_one_the_most():
    model = small_model()
    rule = AutoBudget(0.9, 0.999999, BUCKETS)
    assert alone(model, PICTURES[0], budget=rule).plan.budgets == (BUCKETS[0],)
    rule = AutoBudget(1.0, 0.0, BUCKETS)
    assert alone(model, PICTURES[0], budget=rule).plan.budgets == (BUCKETS[-1],)


def test_held_is_the_mean_of_the_layers_over_an_image_s_own_rows():
    mass = torch.tensor([[4.0, 0.0, 3.0, 1.0, 2.0], [1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5])
    indices = torch.tensor([[0, 2, 4], [0, 1, 2], [0, 1, 2]])
    plan = TokenPlan(None, indices, (3, 1), torch.tensor([[3, 1], [1, 1], [3, 1]]))
    assert held(plan, mass).tolist() == pytest.approx([(0.9 + 0.4) / 2, 0.5, 1.0])


@torch.no_grad()
def test_threads_that_say_different_budgets_do_not_meet():
    model = small_model()
    rule = spread(model)
    asked = [rule, 0.1, 1.0, "auto"] * 4
    model.config.auto_budget = rule.to_dict()
    expected = [alone(model, PICTURES[1], budget=b).logits for b in asked]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda b: alone(model, PICTURES[1], budget=b).logits, asked))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def test_the_rule_is_saved_with_the_model_and_can_be_its_own_budget(tmp_path):
    model = small_model(dtype=torch.float32)
    rule = AutoBudget(0.7, 0.2, (0.1, 0.5))
    model.set_budget(rule)
    assert model.config.budget == "auto"
    model.save_pretrained(tmp_path)
    loaded = FocusDetrForObjectDetection.from_pretrained(tmp_path).eval()
    assert AutoBudget.of(loaded.config.auto_budget) == rule
    picture = PICTURES[0].float()
    assert alone(loaded, picture).plan.budgets is not None
    assert alone(loaded, picture, budget=0.3).plan.budgets is None
    assert count_macs(loaded.config, 64, 96).kept_share <= 0.55
    loaded.set_budget(None)
    assert alone(loaded, picture).plan.budgets is None and loaded.config.auto_budget == rule.to_dict()
    answer = deployment(model)(picture[None])
    assert answer.plan.budgets == alone(model, picture).plan.budgets
    with pytest.raises(FocusDetrError, match="a graph has one budget"):
        deployment(model, compile=True)


def test_gradients_flow_through_pictures_of_several_budgets():
    model = small_model(dtype=torch.float32).train()
    rule = AutoBudget(0.5, 0.5, BUCKETS)
    pixels, mask = batch([each.float() for each in PICTURES])
    targets = labels([2] * 4, [(160, 200), (160, 200), (97, 130), (64, 64)])
    loss = model(pixels, mask, labels=targets, budget=rule).loss
    loss.backward()
    assert torch.isfinite(loss) and model.encoder.selector.project.weight.grad is not None


def test_without_a_rule_the_command_that_finds_one_is_named():
    with pytest.raises(FocusDetrError, match="focus-detr calibrate MODEL DATA --auto"):
        small_model()(PICTURES[0][None], budget="auto")
    with pytest.raises(FocusDetrError, match="leaves no tokens out"):
        small_model(token_policy="dense")(PICTURES[0][None], budget="auto")
    with pytest.raises(FocusDetrError, match="use a number"):
        small_model(quirks="original").set_budget(AutoBudget(0.5, 0.1, BUCKETS))
    with pytest.raises(FocusDetrError, match=r"budget='most': must be a number"):
        small_model().set_budget("most")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 2, "background": 0.1, "buckets": [0.1]}, r"'share'\]=2"),
        ({"share": 0.5, "background": None, "buckets": [0.1]}, r"'background'\]=None"),
        ({"share": 0.5, "background": 0.1, "buckets": []}, "rising"),
        ({"share": 0.5, "background": 0.1, "buckets": [0.5, 0.1]}, "rising"),
        ({"share": 0.5, "background": 0.1, "buckets": [0.01]}, "budget=0.01"),
        ({"share": 0.5, "background": 0.1, "buckets": 0.1}, "a list of budgets"),
        ({"share": 0.5, "background": 0.1}, "lacks 'buckets'"),
        ({"share": 0.5, "backgrund": 0.1, "buckets": [0.1]}, "backgrund.*did you mean 'background'"),
    ],
)
def test_a_rule_that_is_none_is_refused(values, message):
    with pytest.raises(FocusDetrError, match=message):
        FocusDetrConfig(auto_budget=values)


def test_budgets_beside_a_rule_are_what_they_were():
    assert Budget.of(0.3) == Budget(0.3) and Budget.of(None) is None

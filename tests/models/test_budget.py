"""The budget of a call: how many tokens the encoder works on, whatever the configuration says."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from focus_detr.deploy import deploy as deployment
from focus_detr.errors import FocusDetrError
from helpers.small_models import DETR, batch, image, labels, small_model

POLICIES = {
    "focus": {},
    "focus, original": {"quirks": "original"},
    "focus, reactivated": {"policy_options": {"reactivation": True}},
    "salience": {"token_policy": "salience", "policy_options": {"level_quotas": [0.3, 0.6, 1.0, 1.0]}},
    "sparse": {"token_policy": "sparse"},
    "poll-and-pool": {**DETR, "token_policy": "poll-and-pool"},
}
WITHOUT = {
    "dense": {"token_policy": "dense"},
    "interleaved": {"token_policy": "interleaved"},
    "full-attention": {**DETR, "token_policy": "full-attention"},
}
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95, 1.0)
PICTURES = [image(160, 200), image(97, 130, seed=1), image(64, 64, seed=2)]

every = pytest.mark.parametrize("policy", POLICIES)


def counts(plan, index=0):
    """Rows of each layer that are an image's own."""
    return [int(plan.kept(layer)[1][index].sum()) for layer in range(len(plan.counts))]


@every
@torch.no_grad()
def test_a_larger_budget_works_on_no_fewer_tokens_in_any_layer(policy):
    model = small_model(**POLICIES[policy])
    pixels, mask = batch(PICTURES)
    plans = [model(pixels, mask, budget=budget).plan for budget in BUDGETS]
    for i in range(len(PICTURES)):
        worked_on = torch.tensor([counts(plan, i) for plan in plans])  # (budgets, layers)
        assert (worked_on.diff(dim=0) >= 0).all() and (worked_on[0] < worked_on[-1]).all()


@every
@torch.no_grad()
def test_the_mean_layer_works_on_the_share_asked_for(policy):
    model = small_model(**POLICIES[policy])
    picture = image(320, 400)[None]
    for budget in BUDGETS:
        output = model(picture, budget=budget)
        tokens = sum(height * width for height, width in output.spatial_shapes)
        found = sum(output.plan.counts) / len(output.plan.counts) / tokens
        # Counts are whole, the foreground has one more as released, and levels are no exact quarters.
        assert found == pytest.approx(budget, abs=0.01 if tokens > 1000 else 1 / tokens)


@every
@torch.no_grad()
def test_the_whole_budget_visits_every_token_of_every_image_in_every_layer(policy):
    model = small_model(**POLICIES[policy])
    pixels, mask = batch(PICTURES, extra=(40, 8))
    output = model(pixels, mask, budget=1.0)
    for i, sizes in enumerate(output.level_sizes):
        every_token = int(sizes.prod(-1).sum())
        for layer in range(len(output.plan.counts)):
            indices, valid = output.plan.kept(layer)
            assert len(set(indices[i][valid[i]].tolist())) == every_token


@torch.no_grad()
def test_the_whole_budget_is_the_dense_encoder():
    plain = {"dual_attention": False}
    focus, dense = small_model(policy_options=plain), small_model(token_policy="dense")
    dense.load_state_dict(focus.state_dict(), strict=False)
    pixels, mask = batch(PICTURES)
    one, other = focus(pixels, mask, budget=1.0), dense(pixels, mask)
    torch.testing.assert_close(one.pred_boxes, other.pred_boxes, rtol=0, atol=1e-9)
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("policy", [name for name in POLICIES if "original" not in name])
@torch.no_grad()
def test_an_image_in_a_batch_is_the_image_alone_at_every_budget(policy):
    model = small_model(**POLICIES[policy])
    pixels, mask = batch(PICTURES, extra=(9, 31))
    for budget in (0.07, 0.4, 1.0):
        together = model(pixels, mask, budget=budget)
        for i, picture in enumerate(PICTURES):
            alone = model(picture[None], budget=budget)
            assert counts(together.plan, i) == counts(alone.plan)
            queries = alone.logits.shape[1]
            torch.testing.assert_close(together.logits[i, :queries], alone.logits[0], rtol=0, atol=1e-9)
            torch.testing.assert_close(
                together.pred_boxes[i, :queries], alone.pred_boxes[0], rtol=0, atol=1e-9
            )


@torch.no_grad()
def test_no_budget_and_the_cascade_s_own_mean_are_the_same():
    model = small_model(keep_ratio=0.5, cascade=[1.0, 0.6, 0.2])
    picture = PICTURES[0][None]
    plain, same = model(picture), model(picture, budget=0.3)
    assert plain.plan.counts == same.plan.counts and torch.equal(plain.logits, same.logits)


@pytest.mark.parametrize("policy", WITHOUT)
def test_a_policy_that_leaves_nothing_out_refuses_one(policy):
    model = small_model(**WITHOUT[policy])
    with pytest.raises(
        FocusDetrError, match=f"budget=0.5: token_policy='{policy}' leaves no tokens out.*focus"
    ):
        model(PICTURES[0][None], budget=0.5)


def test_what_is_no_budget_is_refused_before_anything_is_encoded():
    with pytest.raises(FocusDetrError, match="budget=2"):
        small_model()(PICTURES[0][None], budget=2)


def test_training_takes_a_budget_too():
    model = small_model().train()
    output = model(PICTURES[0][None], None, labels([2], [(160, 200)]), budget=0.6)
    output.loss.backward()
    tokens = sum(height * width for height, width in output.spatial_shapes)
    assert sum(output.plan.counts) / 3 == pytest.approx(0.6 * tokens, rel=0.02)


@pytest.mark.parametrize("deployed", [False, True])
def test_threads_with_budgets_of_their_own_do_not_disturb_each_other(deployed):
    model = small_model(dtype=torch.float32)
    if deployed:
        model = deployment.deploy(model)
    pixels = image(96, 128, dtype=torch.float32)[None]

    def run(budget):
        with torch.no_grad():
            return model(pixels, budget=budget)

    budgets = [None, 0.1, 0.5, 1.0] * 4
    alone = [run(budget) for budget in budgets[:4]] * 4
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(run, budgets), strict=True):
            assert one.plan.counts == other.plan.counts and torch.equal(one.logits, other.logits)


@torch.no_grad()
def test_a_budget_that_is_set_is_that_of_calls_that_say_none(tmp_path):
    model, picture = small_model(), PICTURES[0][None]
    own, small, whole = (model(picture, budget=budget) for budget in (None, 0.1, 1.0))
    model.set_budget(0.1)
    assert torch.equal(model(picture).logits, small.logits)
    assert torch.equal(model(picture, budget=1.0).logits, whole.logits)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert loaded.config.budget == 0.1 and loaded(picture).plan.counts == small.plan.counts
    model.set_budget(None)
    assert model.config.budget is None and torch.equal(model(picture).logits, own.logits)


@torch.no_grad()
def test_a_deployed_model_has_its_model_s_budget_and_takes_another():
    model = small_model(dtype=torch.float32)
    picture = image(96, 128, dtype=torch.float32)[None]
    model.set_budget(0.1)
    deployed = deployment.deploy(model)
    assert deployed(picture).plan.counts == model(picture).plan.counts
    deployed.set_budget(1.0)
    assert deployed(picture).plan.counts == model(picture, budget=1.0).plan.counts
    assert model.config.budget == 0.1


def test_what_cannot_be_set_is_refused_and_nothing_changes():
    model = small_model()
    model.set_budget(0.4)
    with pytest.raises(FocusDetrError, match="budget=0.01"):
        model.set_budget(0.01)
    assert model.config.budget == 0.4
    with pytest.raises(FocusDetrError, match="budget=0.4: token_policy='dense' leaves no tokens out"):
        small_model(token_policy="dense").set_budget(0.4)
    small_model(token_policy="dense").set_budget(None)
    with pytest.raises(FocusDetrError, match="budget=0.4: token_policy='dense'"):
        small_model(token_policy="dense", budget=0.4)
    with pytest.raises(FocusDetrError, match="budget=7"):
        small_model(budget=7.0)

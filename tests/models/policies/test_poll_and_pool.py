"""The poll-and-pool policy, behind DETR's host (spec 4.3)."""

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrImageProcessor, Predictor
from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import load_recipe, recipe_for
from focus_detr.training.starting_model import build_image_processor
from helpers.small_models import DETR, batch, image, labels, small_config, small_model


def poll_and_pool(**changes):
    return small_model(**DETR, token_policy="poll-and-pool", **changes)


@torch.no_grad()
@pytest.mark.parametrize("ratio", [0.1, 1 / 3, 0.5, 1.0])
def test_it_polls_the_share_that_is_asked_for_and_pools_the_rest(ratio):
    model = poll_and_pool(keep_ratio=ratio, policy_options={"abstract_tokens": 5})
    output = model(image(192, 256)[None])  # 6 x 8 tokens
    polled = int(ratio * 48 + 1e-9)
    assert output.plan.counts == (polled,) * 3
    assert output.memory.shape == (1, polled + 5, 32)
    best = output.plan.scores.sort(descending=True).values[:, :polled]
    assert torch.equal(output.plan.scores.gather(1, output.plan.indices), best)
    assert output.logits.isfinite().all()


@torch.no_grad()
def test_where_all_is_polled_the_abstract_tokens_say_nothing():
    model = poll_and_pool(keep_ratio=1.0)
    picture = image(96, 128)[None]
    before = model(picture)
    model.encoder.pool_values.bias.add_(1.0)
    assert torch.equal(model(picture).logits, before.logits)
    model.encoder.change_options(keep_ratio=0.5)
    some = model(picture).logits
    model.encoder.pool_values.bias.add_(1.0)
    assert not torch.equal(model(picture).logits, some)


@torch.no_grad()
def test_one_token_is_enough():
    for ratio in (0.1, 1.0):
        assert poll_and_pool(keep_ratio=ratio)(image(32, 32)[None]).logits.isfinite().all()


@torch.no_grad()
def test_training_draws_a_ratio_for_each_step_and_evaluation_does_not():
    model = poll_and_pool(policy_options={"training_keep_ratio": [0.25, 0.75]}).train()
    torch.manual_seed(0)
    counts = {model(image(192, 256)[None]).plan.counts[0] for _ in range(30)}
    assert len(counts) > 5 and min(counts) >= 12 and max(counts) <= 36
    model.eval()
    assert {model(image(192, 256)[None]).plan.counts[0] for _ in range(5)} == {24}


def test_scores_learn_through_the_features_and_are_pulled_down():
    model = poll_and_pool(policy_options={"training_keep_ratio": [0.5, 0.5]}).train()
    pixels, mask = batch([image(96, 128), image(64, 96, seed=1)])
    truth = labels([2, 1], [(96, 128), (64, 96)])
    output = model(pixels, mask, labels=truth)
    plan = output.plan
    rows = plan.rows(0)
    assert rows.sum(1).tolist() == [6, 3]
    chance = plan.scores.gather(1, plan.indices).sigmoid()
    mean = (chance[0, :6].mean() + chance[1, :3].mean()) / 2
    torch.testing.assert_close(output.loss_dict["loss_token_scores"], 1e-4 * mean)
    parts = [value for name, value in output.loss_dict.items() if name != "loss_token_scores"]
    torch.stack(parts).sum().backward()
    assert model.encoder.scorer.layers[0].weight.grad.norm() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_options": {"training_keep_ratio": [0.8, 0.3]}},
        {"policy_options": {"training_keep_ratio": [0.3]}},
        {"policy_options": {"abstract_tokens": 0}},
        {"num_levels": 2},
        {"host": "dino", "num_levels": 4},
    ],
)
def test_what_cannot_be_meant_is_refused(changes):
    with pytest.raises(FocusDetrError):
        small_config(**{**DETR, "token_policy": "poll-and-pool", **changes})


@pytest.mark.parametrize("policy", ["full-attention", "poll-and-pool"])
@pytest.mark.parametrize("name", ["detr-r50", "detr-lite0"])
def test_presets_have_one_level(name, policy):
    config = FocusDetrConfig.from_preset(name, token_policy=policy)
    assert config.num_levels == 1 == len(config.backbone_config.out_features)
    assert build_image_processor(name, load_recipe(recipe_for(name))).scoring == "softmax"
    assert config.scoring == "softmax" and FocusDetrConfig.from_preset("dino-r50").scoring == "sigmoid"


def test_a_processor_that_reads_the_scores_otherwise_is_refused():
    with pytest.raises(FocusDetrError, match="scoring='softmax'"):
        Predictor(poll_and_pool(), FocusDetrImageProcessor())

"""Tokens may come back: layers choose from all tokens again, by what those before them found out."""

import pytest
import torch

from focus_detr import FocusDetrForObjectDetection
from focus_detr.errors import FocusDetrError
from helpers.small_models import batch, image, labels, reactivated_model, small_config, small_model

PICTURE = image(96, 128)[None]
LABELS = labels([2], [(96, 128)])


def sets(plan, layers=3):
    return [set(plan.kept(layer)[0][0].tolist()) for layer in range(layers)]


@torch.no_grad()
def test_until_it_is_trained_on_a_model_chooses_as_before():
    plain, model = small_model(), FocusDetrForObjectDetection(
        small_config(policy_options={"reactivation": True})
    ).double().eval()  # fmt: skip
    unknown = model.load_state_dict(plain.state_dict(), strict=False)
    assert unknown.missing_keys and all("rescorers" in name for name in unknown.missing_keys)
    for budget in (None, 0.1, 1.0):
        one, other = plain(PICTURE, budget=budget), model(PICTURE, budget=budget)
        assert sets(one.plan) == sets(other.plan)
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_token_that_one_layer_leaves_may_come_back():
    plan = reactivated_model()(PICTURE).plan
    first, second, third = sets(plan)
    assert [len(each) for each in (first, second, third)] == list(plan.counts)
    assert second - first or third - second
    plain = sets(small_model()(PICTURE).plan)
    assert plain[0] > plain[1] > plain[2]


@torch.no_grad()
def test_layers_take_the_tokens_with_the_best_scores_so_far():
    model = reactivated_model()
    corrections = []
    for rescorer in model.encoder.rescorers:
        rescorer.register_forward_hook(lambda _, inputs, output: corrections.append(output))
    plan = model(PICTURE).plan
    scores = plan.scores.clone()
    for layer, correction in enumerate(corrections):
        kept, _ = plan.kept(layer)
        scores.scatter_add_(1, kept, correction)
        best = scores.argsort(1, descending=True)[:, : plan.counts[layer + 1]]
        assert torch.equal(plan.kept(layer + 1)[0], best)


def test_layers_are_taught_what_they_find_out_at_every_budget():
    model = reactivated_model(denoising_queries=10).train()
    output = model(PICTURE, labels=LABELS, budget=1.0, further=[0.2])
    for each in (output, output.further[0]):
        model.zero_grad()
        each.loss_dict["loss_reactivation"].backward(retain_graph=True)
        assert all(part.grad.norm() > 0 for part in model.encoder.rescorers.parameters())
        # The selector has a loss of its own.
        assert all(part.grad is None for part in model.encoder.selector.parameters())
    model.zero_grad()
    output.loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert "loss_reactivation" not in small_model().train()(PICTURE, labels=LABELS).loss_dict


def test_what_padding_makes_of_tokens_teaches_nothing():
    model = reactivated_model(denoising_queries=0).train()
    pictures, sizes = [image(64, 64), image(160, 128, seed=1)], [(64, 64), (160, 128)]
    pixels, mask = batch(pictures, (20, 30))
    truth = labels([2, 1], sizes)
    together = model(pixels, mask, truth).loss_dict["loss_reactivation"]
    alone = [
        model(picture[None], labels=[each]).loss_dict["loss_reactivation"]
        for picture, each in zip(pictures, truth, strict=True)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-9, atol=0)


@torch.no_grad()
def test_fine_grained_tokens_are_those_of_their_layer():
    output = reactivated_model()(PICTURE, with_samples=True)
    for layer, fine in enumerate(output.fine_tokens):
        assert set(fine[0].tolist()) <= sets(output.plan)[layer]


@torch.no_grad()
def test_layers_that_choose_anew_begin_with_the_ranking_that_is_asked_for():
    model = reactivated_model()
    for rescorer in model.encoder.rescorers:
        for part in rescorer.parameters():
            part.zero_()
    plan = model(PICTURE, ranking=lambda scores, geometry: -scores).plan
    worst = plan.scores.argsort(1)
    for layer, count in enumerate(plan.counts):
        assert torch.equal(plan.kept(layer)[0], worst[:, :count])


@pytest.mark.parametrize("quirks", ["original", {"frozen_values": True}])
def test_the_released_form_knows_no_way_back(quirks):
    with pytest.raises(FocusDetrError, match=r"policy_options\['reactivation'\].*quirks.*frozen_values"):
        small_config(policy_options={"reactivation": True}, quirks=quirks)


def test_other_policies_have_no_such_option():
    with pytest.raises(FocusDetrError, match="unknown key 'reactivation'"):
        small_config(token_policy="salience", policy_options={"reactivation": True})

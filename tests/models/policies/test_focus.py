"""Parts of the paper can be left out, one by one, and nothing else changes with them."""

import pytest
import torch

from focus_detr.benchmarking.candidates import selects_tokens
from focus_detr.errors import FocusDetrError
from helpers.small_models import batch, image, labels, small_config, small_model

PICTURE = image(96, 128)[None]


def run(**options):
    model = small_model(policy_options=options)
    with torch.no_grad():
        return model, model(PICTURE)


def test_without_top_down_modulation_levels_are_scored_by_themselves():
    model, plain = run(top_down=False)
    assert "encoder.selector.modulation" not in model.state_dict()
    full, output = run()
    with torch.no_grad():
        full.encoder.selector.modulation.zero_()
    full.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(full(PICTURE).plan.scores, plain.plan.scores)
    assert not torch.allclose(output.plan.scores[:, :192], plain.plan.scores[:, :192])


def test_without_dual_attention_there_is_no_self_attention():
    model, plain = run(dual_attention=False)
    names = [name for name in model.state_dict() if name.startswith("encoder.")]
    assert names and not any("self_attention" in name for name in names)
    assert plain.plan is not None


@torch.no_grad()
def test_without_category_score_the_foreground_ranks_fine_tokens():
    model, _ = run(category_score=False)
    seen = []
    for layer in model.encoder.layers:
        layer.attend_fine_tokens = lambda kept, where, priority, *counts: (
            seen.append(priority) or (kept, None)
        )
    plan = model(PICTURE).plan
    expected = plan.scores.gather(1, plan.indices)
    for priority, count in zip(seen, plan.counts, strict=True):
        assert torch.equal(priority, expected[:, :count])


@pytest.mark.parametrize("option", ["top_down", "dual_attention", "category_score"])
def test_each_still_learns_everywhere(option):
    model = small_model(policy_options={option: False}, denoising_queries=10).train()
    model(PICTURE, labels=labels([2], [(96, 128)])).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("host", ["deformable-detr", "dn-deformable-detr"])
@pytest.mark.parametrize("policy", ["focus", "salience"])
def test_a_single_stage_host_teaches_the_class_scores(policy, host):
    # Its queries are learned: the encoder's class head serves the policy alone.
    model = small_model(host=host, token_policy=policy).train()
    output = model(PICTURE, labels=labels([2], [(96, 128)]))
    taught = [name for name in output.loss_dict if name.endswith("_enc")]
    assert sorted(taught) == ["loss_bbox_enc", "loss_class_enc", "loss_giou_enc"]
    sum(output.loss_dict[name] for name in taught).backward()
    head = model.proposals.class_head.weight
    assert head.grad.norm() > 0 and model.host.query_content.weight.grad is None
    with torch.no_grad():
        assert not [name for name in model.eval()(PICTURE) if name == "loss_dict"]


@pytest.mark.parametrize(
    ("policy", "expected"), [("focus", True), ("dense", False), ("salience", False), ("interleaved", False)]
)
def test_what_a_keep_ratio_can_be_set_for(policy, expected):
    assert selects_tokens(small_config(token_policy=policy)) == expected


def test_graded_labels_are_what_the_selector_is_taught_and_nothing_else_changes():
    truth = labels([2], [(96, 128)])
    plain = small_model(denoising_queries=0)
    graded = small_model(denoising_queries=0, policy_options={"graded_labels": True})
    one, other = (model.train()(PICTURE, labels=truth).loss_dict for model in (plain, graded))
    assert [name for name in one if not torch.equal(one[name], other[name])] == ["loss_foreground"]
    with pytest.raises(FocusDetrError, match=r"policy_options\['graded_labels'\].*naive_focal"):
        small_config(policy_options={"graded_labels": True}, quirks="original")


@torch.no_grad()
def test_a_share_of_what_layers_work_on_attends_to_one_another_by_one_score():
    model = small_model(policy_options={"fine_share": 0.25, "category_score": False})
    for budget in (0.1, 0.5, 1.0):
        output = model(PICTURE, budget=budget, with_samples=True)
        for layer, fine in enumerate(output.fine_tokens):
            kept = output.plan.kept(layer)[0][0].tolist()
            assert fine[0].tolist() == kept[: len(kept) // 4 + 1]


@torch.no_grad()
def test_images_of_a_batch_have_fine_grained_tokens_by_their_own_share():
    model = small_model(policy_options={"fine_share": 0.3})
    pictures = [image(64, 64), image(160, 128, seed=1)]
    together = model(*batch(pictures, (20, 4)), with_samples=True)
    for i, picture in enumerate(pictures):
        alone = model(picture[None], with_samples=True)
        queries = alone.logits.shape[1]
        torch.testing.assert_close(together.logits[i, :queries], alone.logits[0], rtol=0, atol=1e-9)
        for one, other in zip(together.fine_tokens, alone.fine_tokens, strict=True):
            assert int((one[i] >= 0).sum()) == other.shape[1]


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_fine_grained_tokens_that_is_none_is_refused(share):
    with pytest.raises(FocusDetrError, match=r"policy_options\['fine_share'\]"):
        small_config(policy_options={"fine_share": share})

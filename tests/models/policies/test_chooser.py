"""A learned choice of budgets: what pictures lose at them, from the distribution of their scores."""

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.models.policies.chooser import BudgetChooser
from focus_detr.structures.auto_budget import AutoBudget
from focus_detr.training.tasks import build_task
from focus_detr.training.tasks.base import Step
from helpers.small_models import batch, image, labels, small_model

PICTURES = [image(160, 200), image(97, 130, seed=1), image(64, 64, seed=2)]
BUCKETS = (0.1, 0.3, 1.0)


def choosing(**changes):
    """A model whose chooser tells pictures and budgets apart."""
    model = small_model(policy_options={"learned_budget": True}, **changes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in model.encoder.chooser.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=part.dtype) / 3)
        model.encoder.chooser.layers[-1].bias.add_(9.7)  # to where losses differ
    return model


def trained(chooser, scores, losses, steps=300):
    """The chooser after it has seen what pictures lose at two budgets, and the error that is left."""
    optimizer = torch.optim.Adam(chooser.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        error = sum(
            (chooser(scores, None, budget) - wanted).square().mean() for budget, wanted in losses.items()
        )
        error.backward()
        optimizer.step()
    return error.item()


def test_it_learns_what_empty_and_crowded_pictures_lose_at_budgets():
    generator = torch.Generator().manual_seed(0)
    crowded = torch.rand(32, generator=generator) > 0.5
    scores, unseen = torch.randn(2, 32, 500, generator=generator) - 5
    scores[crowded, :100] += 7
    unseen[crowded, :100] += 7
    chooser = BudgetChooser()
    chooser.start()
    chosen = crowded.float()
    assert trained(chooser, scores, {0.1: chosen, 0.9: torch.zeros(32)}) < 0.01
    told = chooser(unseen, None, 0.1)
    assert told[crowded].min() > 0.8 > 0.2 > told[~crowded].max()


@torch.no_grad()
def test_padding_is_no_part_of_the_picture():
    chooser = choosing().encoder.chooser
    scores = torch.randn(1, 50, dtype=torch.float64)
    padded = torch.cat([scores, torch.full((1, 30), 9.0, dtype=torch.float64)], 1)
    valid = torch.arange(80)[None] < 50
    torch.testing.assert_close(chooser(padded, valid, 0.2), chooser(scores, None, 0.2), rtol=0, atol=0)


@torch.no_grad()
def test_a_picture_has_the_smallest_budget_that_is_expected_to_keep_enough_whatever_its_batch():
    model = choosing()
    kept = {}
    for i, picture in enumerate(PICTURES):
        scores = model(picture[None]).plan.scores
        kept[i] = [float(model.encoder.expects(scores, None, budget)) for budget in BUCKETS]
    middle = sorted(each for row in kept.values() for each in row[:2])
    rule = AutoBudget((middle[2] + middle[3]) / 2, 0.0, BUCKETS, learned=True)
    together = model(*batch(PICTURES, (9, 30)), budget=rule)
    for i, picture in enumerate(PICTURES):
        alone = model(picture[None], budget=rule)
        enough = [bucket for bucket, keeps in zip(BUCKETS, kept[i], strict=True) if keeps >= rule.share]
        expected = enough[0] if enough else BUCKETS[-1]
        assert alone.plan.budgets == (expected,) == (together.plan.budgets[i],)
        queries = alone.logits.shape[1]
        torch.testing.assert_close(together.logits[i, :queries], alone.logits[0], rtol=0, atol=1e-9)
    assert len(set(together.plan.budgets)) > 1


def step(model, **options):
    pixels, mask = batch([image(96, 128, dtype=torch.float32), image(64, 64, seed=1, dtype=torch.float32)])
    given = {"pixel_values": pixels, "pixel_mask": mask, "labels": labels([2, 1], [(96, 128), (64, 64)])}
    task = build_task("any-budget", {"smallest_rate": 1.0, **options}, model, torch.device("cpu"))
    return task(model, given, Step(0, 10, torch.Generator().manual_seed(0)))


def test_any_budget_training_teaches_it_the_loss_that_a_sparse_pass_adds_and_it_teaches_nobody():
    model = choosing(dtype=torch.float32, denoising_queries=0).train()
    loss, parts = step(model)
    parts["loss_sparse_choice"].backward(retain_graph=True)
    taught = {name for name, part in model.named_parameters() if part.grad is not None}
    assert taught == {f"encoder.chooser.{name}" for name, _ in model.encoder.chooser.named_parameters()}
    model.zero_grad()
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert step(model, smallest=1.0)[1]["loss_sparse_choice"] > 0  # it does not know yet that nothing is lost
    plain = small_model(dtype=torch.float32).train()
    assert "loss_sparse_choice" not in step(plain)[1]


def test_plain_training_reaches_every_parameter_too():
    model = choosing().train()
    model(PICTURES[0][None], labels=labels([2], [(160, 200)])).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_rule_of_a_chooser_is_refused_without_one():
    rule = AutoBudget(0.9, 0.0, BUCKETS, learned=True)
    assert AutoBudget.of(rule.to_dict()) == rule
    with pytest.raises(FocusDetrError, match=r"auto_budget\['learned'\].*no chooser"):
        small_model()(PICTURES[0][None], budget=rule)
    with pytest.raises(FocusDetrError, match=r"auto_budget\['learned'\]=1: must be true or false"):
        AutoBudget.of({**rule.to_dict(), "learned": 1})

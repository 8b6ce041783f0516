"""The task any-budget: the pass over all tokens, and sparse passes that it teaches."""

import csv

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.models.policies.focus import FocusPolicy
from focus_detr.structures.budget import SMALLEST
from focus_detr.training import train
from focus_detr.training.tasks import Step, build_task
from helpers.small_models import DETR, batch, image, labels, small_model
from helpers.tiny_training import RECIPE, small_focus_detr, write_dataset

TASK = {"task": "any-budget"}
SIZES = [(96, 128), (64, 64)]
HOSTS = {
    "dino": {},
    "dino, contents of tokens": {"host_options": {"content_from_memory": True}},
    "salience-detr": {"host": "salience-detr"},
    "deformable-detr": {"host": "deformable-detr"},
    "two-stage": {"host": "deformable-detr", "host_options": {"two_stage": True, "box_refinement": True}},
    "dn-deformable-detr": {"host": "dn-deformable-detr"},
    "reactivation": {"policy_options": {"reactivation": True}},
    "sparse": {"token_policy": "sparse"},
    "salience": {"token_policy": "salience", "policy_options": {"level_quotas": [0.3, 0.6, 1.0, 1.0]}},
    "detr": {**DETR, "token_policy": "poll-and-pool"},
}


def given(dtype=torch.float32):
    pixels, mask = batch([image(*size, seed=seed, dtype=dtype) for seed, size in enumerate(SIZES)])
    seeds = [{**each, "noise_seed": torch.tensor([9])} for each in labels([2, 1], SIZES)]
    return {"pixel_values": pixels, "pixel_mask": mask, "labels": seeds}


def a_step(seed=3):
    return Step(0, 10, torch.Generator().manual_seed(seed))


def any_budget(model, **options):
    return build_task("any-budget", options, model, torch.device("cpu"))


def small(**changes):
    return small_model(dtype=torch.float32, **changes).train()


@pytest.fixture
def encoders_runs(monkeypatch):
    """Shares of tokens that the first layers worked on, and the tokens, of each run of an encoder."""
    seen, forward = [], FocusPolicy.forward

    def watched(self, tokens, plan):
        seen.append((plan.counts[0] / tokens.content.shape[1], tokens))
        return forward(self, tokens, plan)

    monkeypatch.setattr(FocusPolicy, "forward", watched)
    return seen


def test_without_sparse_passes_or_their_losses_it_is_plain_detection_over_all_tokens():
    model, plain = small(), given()
    expected = model(**plain, budget=1.0)
    expected.loss.backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    nothing = dict.fromkeys(["labels_weight", "logits_weight", "boxes_weight", "features_weight"], 0.0)
    for options in ({"passes": 0}, {"passes": 2, **nothing}):
        model.zero_grad(set_to_none=True)
        loss, parts = any_budget(model, **options)(model, plain, a_step())
        assert torch.equal(loss, expected.loss) and parts.items() >= expected.loss_dict.items()
        loss.backward()
        for name, gradient in gradients.items():
            assert torch.equal(model.get_parameter(name).grad, gradient), name


def test_a_pass_over_all_tokens_has_nothing_to_learn_from_its_teacher():
    model = small()
    _, parts = any_budget(model, smallest=1.0)(model, given(), a_step())
    assert parts["loss_sparse_features"] == 0
    assert parts["loss_sparse_logits"].item() == pytest.approx(0, abs=1e-5)
    assert parts["loss_sparse_boxes"].item() == pytest.approx(
        0, abs=1e-3
    )  # overlaps are divided by a little more
    _, parts = any_budget(model, smallest=0.1, smallest_rate=1.0)(model, given(), a_step())
    assert all(parts[f"loss_sparse_{name}"] > 1e-3 for name in ("features", "logits", "boxes"))


def test_the_parts_add_up_and_the_backbone_runs_once(encoders_runs, monkeypatch):
    model = small()
    runs = []
    model.backbone.register_forward_hook(lambda *_: runs.append(1))
    images = len(SIZES)  # each size by itself
    loss, parts = any_budget(model, passes=2)(model, given(), a_step())
    torch.testing.assert_close(loss, sum(parts.values()))
    assert len(runs) <= images and len(encoders_runs) == 3
    assert encoders_runs[0][0] == 1 and max(share for share, _ in encoders_runs[1:]) < 1
    assert all(tokens is encoders_runs[0][1] for _, tokens in encoders_runs)


def test_the_teacher_is_not_taught():
    # By the student's distance alone, a model whose student sees all tokens as the teacher does never moves.
    model = small()
    task = any_budget(model, smallest=0.1, smallest_rate=1.0, labels_weight=0.0)
    outputs = model(**given(), budget=1.0, further=[0.1])
    outputs.logits.retain_grad()
    outputs.pred_boxes.retain_grad()
    outputs.memory.retain_grad()
    (student,) = outputs.further
    for each in (student.logits, student.pred_boxes, student.memory):
        each.retain_grad()
    sum(task._taught(student, outputs).values()).backward()
    assert outputs.logits.grad is None and outputs.pred_boxes.grad is None and outputs.memory.grad is None
    for each in (student.logits, student.pred_boxes, student.memory):
        assert each.grad.abs().sum() > 0


def test_sparse_passes_start_from_the_teachers_queries_without_noise():
    model = small()
    outputs = model(**given(), budget=1.0, further=[0.1])
    assert torch.equal(outputs.further[0].proposal_boxes, outputs.proposal_boxes)
    assert not any("_dn" in name for name in outputs.further[0].loss_dict)
    alone = model(**given(), budget=0.1)
    assert not torch.equal(alone.proposal_boxes, outputs.proposal_boxes)
    # What the encoder proposes at its own budget is taught too.
    for name, value in outputs.further[0].loss_dict.items():
        if name.endswith("_enc"):
            torch.testing.assert_close(value, alone.loss_dict[name])


@torch.no_grad()
def test_in_evaluation_further_budgets_are_calls_of_their_own():
    model = small().eval()
    pictures = {name: value for name, value in given().items() if name != "labels"}
    outputs = model(**pictures, further=[0.1, 1.0])
    for budget, one in zip((None, 0.1, 1.0), (outputs, *outputs.further), strict=True):
        other = model(**pictures, budget=budget)
        assert torch.equal(one.logits, other.logits) and torch.equal(one.pred_boxes, other.pred_boxes)
    assert model(**pictures).further is None
    with pytest.raises(FocusDetrError, match="budget=3"):
        model(**pictures, further=[0.1, 3])


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_and_policy_learns_with_every_parameter(name):
    model = small(**HOSTS[name])
    loss, parts = any_budget(model, passes=2)(model, given(), a_step())
    loss.backward()
    assert loss.isfinite()
    missing = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert not missing
    assert ("loss_sparse_logits" in parts) == (name != "two-stage")
    assert all(value.isfinite() for value in parts.values())


def test_shares_are_the_smallest_now_and_then_and_otherwise_any():
    task = any_budget(small(), passes=8, smallest_rate=0.25, smallest=0.05)
    drawn = torch.tensor([task.draw(torch.Generator().manual_seed(seed)) for seed in range(300)]).flatten()
    assert drawn.min() == pytest.approx(SMALLEST) and drawn.max() <= 1
    smallest = drawn == drawn.min()
    assert 0.2 < smallest.float().mean() < 0.3
    quantiles = drawn[~smallest].quantile(torch.tensor([0.25, 0.5, 0.75])).log() / torch.tensor(0.05).log()
    torch.testing.assert_close(quantiles, torch.tensor([0.75, 0.5, 0.25]), atol=0.04, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smallest": 0.01}, "smallest.*0.05"),
        ({"passes": -1}, "passes"),
        ({"smallest_rate": 1.5}, "smallest_rate"),
        ({"logits_weight": -1.0}, "logits_weight"),
        ({"budgets": [1.0]}, "unknown key 'budgets'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(FocusDetrError, match=message):
        any_budget(small(), **options)


def test_a_model_that_leaves_no_token_out_is_refused():
    with pytest.raises(FocusDetrError, match="token_policy='dense' leaves no tokens out"):
        any_budget(small(token_policy="dense"))


def rows(output):
    with (output / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "loss" in k} for row in csv.DictReader(file) if row["loss"]]


def test_a_run_that_was_stopped_goes_on_with_the_same_budgets(tmp_path, monkeypatch):
    from focus_detr.training.loop import TrainingLoop

    write_dataset(tmp_path / "data")
    options = {"device": "cpu", "recipe": {**RECIPE, **TASK, "eval_split": None, "checkpoint_steps": 2}}
    options["recipe"] |= {"epochs": 2, "augmentation": "none", "gradient_accumulation": 2}
    train(tmp_path / "data", model=small_focus_detr(4), output=tmp_path / "whole", **options)

    step = TrainingLoop._step

    def failing(self, *arguments):
        if self.state.step == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "_step", failing)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "data", model=small_focus_detr(4), output=tmp_path / "halves", **options)
    train(tmp_path / "data", model=small_focus_detr(4), output=tmp_path / "halves", resume=True, **options)
    assert rows(tmp_path / "halves")[-3:] == rows(tmp_path / "whole")[-3:]
    assert all(float(row["loss_sparse_features"]) > 0 for row in rows(tmp_path / "whole"))

"""A budget of training time becomes a length, once, and nothing else of the training changes."""

import logging
import re
import signal

import pytest
import torch
from safetensors.torch import load_file

from focus_detr.errors import FocusDetrError
from focus_detr.training import Recipe, fitting, load_recipe, train
from focus_detr.training.evaluating import CocoEvaluator
from focus_detr.training.time_budget import Costs, count_evaluations, fitted, in_words, seconds_of
from helpers.tiny_training import RECIPE, finish, losses, small_focus_detr, start_two, tiny_detector

QUICK = {**RECIPE, "checkpoint_steps": None, "log_steps": 50, "batch_size": 1}


class Clock:
    """A second passes whenever it is looked at, and more where told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fitting, "perf_counter", clock)
    return clock


def run(data, output, clock=None, **options):
    def evaluator(model):
        if clock is not None:
            clock.now += 20
        return {"AP": float(next(model.parameters()).sum())}

    model = tiny_detector()
    options.setdefault("recipe", QUICK)
    return train(data, model=model, output=output, device="cpu", evaluator=evaluator, **options)


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_length_of_time_is_read():
    assert [seconds_of(each) for each in ("20m", "1h30m", "90s", "0.5h")] == [1200, 5400, 90, 1800]
    for wrong in ("", "20", "m", "0s", "1.2.3m", "-5m", "20 minutes", 20):
        with pytest.raises(FocusDetrError, match="20m, 1h30m or 90s"):
            seconds_of(wrong)
    for seconds in (3, 61, 599, 601, 3601, 86_000):
        assert seconds <= seconds_of(in_words(seconds)) <= seconds + 60


@pytest.mark.slow
def test_a_run_of_a_budget_is_the_run_of_its_steps(tiny_data, tmp_path, clock, caplog):
    with caplog.at_level(logging.INFO, "focus_detr"):
        result = run(tiny_data, tmp_path / "budget", clock, time="200s")
    recipe = load_recipe(tmp_path / "budget" / "recipe.yaml")
    assert recipe.epochs is None and recipe.fitted_to == "200s"
    assert result.steps == recipe.max_steps >= 100
    assert recipe.lr_drops == (pytest.approx(recipe.max_steps * 2 / 3),)
    assert f"{recipe.max_steps} steps of 1 images" in caplog.text and "evaluations" in caplog.text
    assert not (tmp_path / "budget" / ".measuring").exists()

    by_hand = run(tiny_data, tmp_path / "hand", overrides={"max_steps": recipe.max_steps, "eval_interval": 0})
    assert losses(by_hand.output) == losses(result.output)
    for name, weight in weights(by_hand.last).items():
        assert torch.equal(weight, weights(result.last)[name]), name
    assert load_recipe(by_hand.output / "recipe.yaml").fitted_to is None


def test_a_model_that_was_given_starts_as_it_was(tiny_data, tmp_path, clock, monkeypatch):
    """The measured steps train a copy."""
    seen = []
    measure = fitting._measure

    def measured(loop, stopwatch):
        costs = measure(loop, stopwatch)
        seen.append(loop.model.trained)
        return costs

    monkeypatch.setattr(fitting, "_measure", measured)
    model = tiny_detector()
    before = model.box_head.weight.clone()
    with pytest.raises(FocusDetrError, match="too short"):
        train(tiny_data, model=model, recipe=QUICK, output=tmp_path / "run", device="cpu", time="30s")
    assert torch.equal(model.box_head.weight, before)
    assert not torch.equal(seen[0].box_head.weight, before)


@pytest.mark.slow
def test_a_run_of_a_budget_resumes_with_the_length_it_chose(tiny_data, tmp_path, clock, monkeypatch):
    whole = run(tiny_data, tmp_path / "whole", clock, time="200s")
    clock.now = 0.0
    from focus_detr.training.loop import TrainingLoop

    step = TrainingLoop._step

    def stopping(self, *arguments):
        if self.output.name == "run" and self.state.step == 50:
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(TrainingLoop, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_data, tmp_path / "run", clock, time="200s")
    monkeypatch.setattr(TrainingLoop, "_step", step)
    monkeypatch.setattr(fitting, "fitted", None)  # nothing is measured again, with time said or not
    with pytest.raises(FocusDetrError, match="fitted to 200s when it started"):
        run(tiny_data, tmp_path / "run", resume=True, time="6m")
    resumed = run(tiny_data, tmp_path / "run", resume=True, time="3m20s", overrides={"eval_interval": 1})
    assert resumed.steps == whole.steps
    for name, weight in weights(whole.last).items():
        assert torch.equal(weight, weights(resumed.last)[name]), name
    assert run(tiny_data, tmp_path / "run", resume=True, recipe=None).steps == whole.steps

    plain = run(tiny_data, tmp_path / "plain", overrides={"max_steps": 1})
    with pytest.raises(FocusDetrError, match="not fitted to a budget of time"):
        run(tiny_data, plain.output, resume=True, time="5m")


def test_what_is_interrupted_while_it_is_measured_names_nothing_to_go_on_from(
    tiny_data, tmp_path, clock, caplog, monkeypatch
):
    from focus_detr.training.loop import TrainingLoop

    step = TrainingLoop._step

    def interrupted(self, *arguments):
        if self.state.step == 3:
            signal.raise_signal(signal.SIGINT)
        step(self, *arguments)

    monkeypatch.setattr(TrainingLoop, "_step", interrupted)
    with caplog.at_level(logging.INFO, "focus_detr"), pytest.raises(KeyboardInterrupt):
        run(tiny_data, tmp_path / "run", clock, time="200s")
    assert "the run had not begun" in caplog.text and "goes on from there" not in caplog.text
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_start_from_random_numbers_is_said_once(tiny_data, tmp_path, clock, caplog):
    recipe = {**QUICK, "eval_split": None}
    model, options = small_focus_detr(), {"output": tmp_path / "run", "device": "cpu", "time": "150s"}
    train(tiny_data, model=model, recipe=recipe, **options)
    assert caplog.text.count("backbone has random numbers") == 1


@pytest.mark.slow
def test_two_processes_fit_to_a_budget_together(tiny_data, tmp_path):
    options = {"noise": 0.0, "overrides": {"checkpoint_steps": None, "batch_size": 2}}
    finish(*start_two(tiny_data, tmp_path / "two", time="4m", clock=True, **options))
    recipe = load_recipe(tmp_path / "two" / "recipe.yaml")
    assert recipe.fitted_to == "4m" and recipe.max_steps >= 100
    assert max(losses(tmp_path / "two")) == recipe.max_steps
    by_hand = {"epochs": None, "max_steps": recipe.max_steps, "eval_interval": recipe.eval_interval}
    finish(*start_two(tiny_data, tmp_path / "hand", noise=0.0, overrides=options["overrides"] | by_hand))
    assert losses(tmp_path / "hand") == losses(tmp_path / "two")


def test_too_small_a_budget_names_the_smallest(tiny_data, tmp_path, clock):
    with pytest.raises(FocusDetrError, match="too short: on this machine a step of 1 images") as refused:
        run(tiny_data, tmp_path / "run", clock, time="60s")
    assert not (tmp_path / "run").exists()
    smallest = re.search(r"give (\w+) at least", str(refused.value))[1]
    assert run(tiny_data, tmp_path / "run", clock, time=smallest).steps >= 100


def test_time_and_another_length_are_refused(tiny_data, tmp_path):
    for key in ("epochs", "max_steps"):
        with pytest.raises(FocusDetrError, match=f"{key}=3: both say how long"):
            run(tiny_data, tmp_path / "run", time="5m", overrides={key: 3})
    with pytest.raises(FocusDetrError, match="20m, 1h30m or 90s"):
        run(tiny_data, tmp_path / "run", time="soon")
    given = Recipe.from_dict({"epochs": None, "max_steps": 500, "fitted_to": "5m"})
    assert given.replace({"max_steps": 20}).fitted_to is None
    assert given.replace({"seed": 1}).fitted_to == "5m"


@pytest.mark.parametrize("interval", [0, 1, 3])
@pytest.mark.parametrize("evaluation", [0.0, 5.0, 200.0])
@pytest.mark.parametrize("checkpoint_steps", [None, 30])
def test_the_plan_fills_the_budget_and_most_of_it_trains(interval, evaluation, checkpoint_steps):
    recipe = Recipe.from_dict({"eval_interval": interval, "checkpoint_steps": checkpoint_steps})
    costs = Costs(step=0.5, turn=2.0, evaluation=evaluation, spent=30.0, not_measured=0.0)
    chosen = fitted(recipe, "30m", costs, steps_per_epoch=25, images=400)
    planned = costs.seconds(chosen.max_steps, 25, chosen.eval_interval, recipe)
    assert (
        planned <= 1770 < costs.seconds(chosen.max_steps + 200, 25, chosen.eval_interval, recipe) + evaluation
    )
    spent = evaluation * count_evaluations(chosen.max_steps, 25, chosen.eval_interval)
    assert spent <= 0.25 * 1770 + evaluation
    assert chosen.eval_interval == 0 if interval == 0 else chosen.eval_interval >= interval
    if evaluation == 0:
        assert chosen.eval_interval == interval


def test_keeping_the_best_model_counts_with_an_evaluation(tiny_data, tmp_path, clock, monkeypatch):
    from focus_detr.training.loop import TrainingLoop

    save, seen = TrainingLoop.save_trained_model, []

    def slow(self, folder):
        clock.now += 30
        save(self, folder)

    def refused(recipe, time, costs, *rest):
        seen.append(costs.evaluation)
        raise FocusDetrError("measured")

    monkeypatch.setattr(TrainingLoop, "save_trained_model", slow)
    monkeypatch.setattr(fitting, "fitted", refused)
    with pytest.raises(FocusDetrError, match="measured"):
        run(tiny_data, tmp_path / "run", clock, time="1h")
    assert seen == [pytest.approx(20 + 30, abs=3)]


def test_cocos_evaluation_is_measured_by_some_batches(tiny_data, tmp_path, clock, monkeypatch):
    looked = []
    find = CocoEvaluator.find

    def counted(self, *arguments):
        clock.now += 10 * len(self.batches)
        looked.append(len(self.batches))
        return find(self, *arguments)

    monkeypatch.setattr(CocoEvaluator, "find", counted)
    monkeypatch.setattr(fitting, "fitted", lambda recipe, time, costs, *rest: stop(costs))

    def stop(costs):
        raise FocusDetrError(f"{costs.evaluation}")

    many = {"eval_split": "train", "eval_batch_size": 1}  # ten images
    with pytest.raises(FocusDetrError) as measured:
        train(
            tiny_data, model=tiny_detector(), recipe={**QUICK, **many}, output=tmp_path / "run", device="cpu",
            time="1h",
        )  # fmt: skip
    assert sum(looked) < 10
    assert float(str(measured.value)) == pytest.approx(10 * 10, abs=3)

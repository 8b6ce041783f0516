"""Parameter groups and the schedule are those of the original (spec 1.14)."""

import pytest
import torch
from torch import nn

from focus_detr.errors import FocusDetrError
from focus_detr.training.ema import build_ema
from focus_detr.training.optimization import freeze_unlearned, learning_rate_factor, parameter_groups
from focus_detr.training.recipe import Recipe, load_recipe


def test_groups_of_the_original():
    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.zoo.presets import preset

    with torch.device("meta"):
        model = FocusDetrForObjectDetection(preset("focus-detr-r50"))
    groups = parameter_groups(model, load_recipe("coco-12ep"))
    counts = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in groups}
    assert counts == {(1e-4, 1e-4): 274, (1e-4, 0.0): 86, (1e-5, 1e-4): 52}


def test_offsets_learn_slowly_in_deformable_detr():
    from focus_detr.models import FocusDetrForObjectDetection
    from focus_detr.zoo.presets import preset

    with torch.device("meta"):
        model = FocusDetrForObjectDetection(preset("deformable-detr-r50"))
    groups = parameter_groups(model, load_recipe("deformable-50ep"))
    slow = {id(p) for group in groups if group["lr"] == pytest.approx(2e-5) for p in group["params"]}
    found = {name for name, p in model.named_parameters() if id(p) in slow and "backbone" not in name}
    offsets = {name for name, _ in model.named_parameters() if "sampling_offsets" in name}
    assert len(offsets) == 2 * (6 + 6)  # weight and bias, encoder and decoder
    assert found == offsets | {"host.query_point.weight", "host.query_point.bias"}


def test_norms_and_frozen_parameters():
    model = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
            "head": nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        }
    )
    model["backbone"][2].requires_grad_(False)
    groups = parameter_groups(
        model, Recipe(learning_rate=1.0, weight_decay=0.5, backbone_learning_rate_factor=0.25)
    )
    found = [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups]
    assert found == [(1.0, 0.5, 2), (1.0, 0.0, 4), (0.25, 0.5, 2), (0.25, 0.0, 2)]


def test_parts_have_the_learning_rates_that_they_are_named_for():
    model = nn.ModuleDict(
        {"backbone": nn.Linear(2, 2), "head": nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})}
    )
    recipe = Recipe(
        learning_rate=1.0, weight_decay=0.0, learning_rate_factors={"": 0, "head": 0.5, "head.b": 2}
    )
    freeze_unlearned(model, recipe)
    rates = {id(p): group["lr"] for group in parameter_groups(model, recipe) for p in group["params"]}
    found = {name: rates.get(id(parameter)) for name, parameter in model.named_parameters()}
    assert found == {
        "backbone.weight": None, "backbone.bias": None, "head.a.weight": 0.5, "head.a.bias": 0.5,
        "head.b.weight": 2.0, "head.b.bias": 2.0,
    }  # fmt: skip
    assert not model["backbone"].weight.requires_grad


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"haed": 1.0}, "no parameter's name begins with 'haed' .did you mean 'head'"),
        ({"": 0.0}, "nothing is left to train"),
    ],
)
def test_parts_that_are_not_there_are_refused(factors, message):
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(FocusDetrError, match=message):
        freeze_unlearned(model, Recipe(learning_rate_factors=factors))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(epochs=10, lr_drops=(5, 8)), {0: 1, 49: 1, 50: 0.1, 79: 0.1, 80: 0.01, 99: 0.01}),
        (Recipe(epochs=None, max_steps=100, lr_drops=(30,)), {29: 1, 30: 0.1}),
        (Recipe(epochs=10, schedule="constant"), {0: 1, 99: 1}),
        (Recipe(epochs=10, schedule="cosine", lr_final_factor=0.2), {0: 1, 50: 0.6, 100: 0.2}),
        (
            Recipe(epochs=10, schedule="constant", warmup=0.1, warmup_factor=0.5),
            {0: 0.5, 5: 0.75, 10: 1, 50: 1},
        ),
        (
            Recipe(epochs=10, schedule="cosine", warmup=0.2, lr_final_factor=0, warmup_factor=0),
            {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0},
        ),
    ],
    ids=["epochs", "steps", "constant", "cosine", "warm-up", "warm-up and cosine"],
)
def test_schedules(recipe, expected):
    factor = learning_rate_factor(recipe, total_steps=100, steps_per_epoch=10)
    assert {step: pytest.approx(factor(step)) for step in expected} == expected


def test_moving_average_follows_with_a_growing_decay():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    weight = model[0].weight
    torch.nn.init.constant_(weight, 0.0)
    ema = build_ema(model, decay=0.9, warmup_steps=2)  # spans two steps: 0.5 at most
    expected = 0.0
    for step in range(1, 6):
        torch.nn.init.constant_(weight, float(step))
        model[1].num_batches_tracked.fill_(step)
        ema.update_parameters(model)
        decay = 0.5 * (1 - torch.exp(torch.tensor(-step / 2)).item())
        expected = decay * expected + (1 - decay) * step
        assert ema.module[0].weight.item() == pytest.approx(expected, rel=1e-5)
    assert ema.module[1].num_batches_tracked == 5  # whole numbers are copied
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert weight.requires_grad


@pytest.mark.parametrize("steps", [8, 24, 225, 2250])
def test_a_run_of_any_length_reaches_its_rate_and_averages_over_its_end(steps):
    """Sixty images make 24 steps in three epochs: once, 200 steps of warm-up were all there was."""
    recipe = load_recipe("small-data")
    factor = learning_rate_factor(recipe, steps, steps / 3)
    rates = [factor(step) for step in range(steps)]
    assert max(rates) == pytest.approx(1, abs=0.02) and rates.index(max(rates)) <= 0.06 * steps + 1

    model = nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    ema = build_ema(model, recipe.ema_decay, recipe.ema_warmup * steps)
    for step in range(1, steps + 1):
        torch.nn.init.constant_(model.weight, step / steps)
        ema.update_parameters(model)
    # The average is about where the weights were a tenth of the run ago, whatever its length.
    assert 0.8 <= ema.module.weight.item() <= 1

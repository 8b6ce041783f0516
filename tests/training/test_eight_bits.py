"""Training for 8 bits: what is rounded, how, what learns through it, and where the ranges go."""

import copy

import pytest
import torch
from torch import nn

from focus_detr.deploy.precision import coarse_layers
from focus_detr.errors import FocusDetrError
from focus_detr.models.eight_bits import WatchedRange, round_layers, rounded_layers, weight_scale
from focus_detr.training.eight_bits import EightBitsOptions, EightBitsTask, read_eight_bits
from focus_detr.training.recipe import Recipe
from focus_detr.training.tasks import DetectionTask, Step
from focus_detr.training.tasks.any_budget import AnyBudgetOptions, AnyBudgetTask
from helpers.small_models import image, labels, small_config, small_model


def rounded(layer, known=None, momentum=0.5):
    round_layers({"layer": layer}, momentum, {} if known is None else {"layer": known})
    return layer


def step(number, total=10):
    return Step(number, total, torch.Generator().manual_seed(number))


@pytest.fixture
def student():
    model = small_model(dtype=torch.float32).train()
    options = EightBitsOptions(frozen_from=0.5)
    return model, EightBitsTask(DetectionTask(model, torch.device("cpu"), None), options, model)


def batch_of(seed=0):
    pixels = image(96, 128, seed=seed, dtype=torch.float32)[None]
    return {"pixel_values": pixels, "labels": labels([2], [(96, 128)])}


def test_a_linear_layer_is_rounded_as_by_hand():
    layer = rounded(nn.Linear(3, 2), known=(-1.0, 3.0)).eval()
    x = torch.tensor([[-2.0, 0.5, 2.9], [5.0, 0.0, -0.4]])
    scale = 4 / 255
    zero = round(1 / scale)
    inputs = ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale
    weight = layer._parameters["weight"].detach()
    step_of = weight.abs().amax(1, keepdim=True) / 64
    expected = inputs @ ((weight / step_of).round() * step_of).T + layer.bias
    torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer(torch.zeros(1, 3))[0], layer.bias)  # zero stays zero


def test_a_convolution_has_a_step_for_each_of_its_channels_and_pads_as_before():
    layer = nn.Conv2d(2, 3, 3, padding=1, stride=2)
    with torch.no_grad():
        layer.weight[1] *= 100
    plain, x = copy.deepcopy(layer), torch.rand(1, 2, 8, 6)
    assert weight_scale(plain.weight.detach())[1] > 20 * weight_scale(plain.weight.detach())[0]
    found = rounded(layer, known=(0.0, 1.0)).eval()(x)
    for channel, close in enumerate((0.02, 2.0, 0.02)):
        torch.testing.assert_close(found[:, channel], plain(x)[:, channel], rtol=0, atol=close)


def test_gradients_pass_through_the_rounding_and_names_stay():
    layer = nn.Linear(4, 4)
    before = dict(layer.named_parameters())
    state = set(layer.state_dict())
    layer = rounded(layer).train()
    layer(torch.randn(5, 4)).square().sum().backward()
    assert dict(layer.named_parameters()) == before and set(layer.state_dict()) == state
    assert (before["weight"].grad != 0).all()


def test_a_range_follows_what_is_seen_in_training_alone_and_copies_share_it():
    layer = rounded(nn.Linear(2, 2)).train()
    layer(torch.tensor([[1.0, 2.0]]))  # zero is in every range
    assert layer.watched.known() == (0.0, 2.0)
    average = copy.deepcopy(layer).eval()
    layer(torch.tensor([[-1.0, 4.0]]))
    assert average.watched.known() == layer.watched.known() == (-0.5, 3.0)
    average(torch.tensor([[100.0, 0.0]]))
    layer.watched.watching = False
    layer(torch.tensor([[100.0, 0.0]]))
    assert layer.watched.known() == (-0.5, 3.0)
    assert WatchedRange(0.5).rounded(torch.tensor(0.123)) == torch.tensor(0.123)


def test_what_decides_is_not_rounded(student):
    model, task = student
    names = set(task.watched)
    assert names == {name for name in coarse_layers(model) if not name.startswith("neck.")}
    assert any(name.startswith("backbone.") for name in names) and any("ffn" in name for name in names)
    assert not any(part in name for name in names for part in ("selector", "head", "offsets", "proposals"))


def test_ranges_go_to_the_configurations_until_they_are_frozen(student):
    model, task = student
    average = copy.deepcopy(model)
    task.begin(average)
    task(model, batch_of(), step(0))
    first = model.config.activation_ranges
    assert set(first) == set(task.watched) and average.config.activation_ranges == first
    task(model, batch_of(1), step(4))
    second = model.config.activation_ranges
    assert second != first
    loss, parts = task(model, batch_of(2), step(5))
    assert model.config.activation_ranges == second and "loss_class" in parts
    loss.backward()
    assert rounded_layers(model)["encoder.layers.0.ffn.linear1"]._parameters["weight"].grad.abs().sum() > 0


def test_a_run_goes_on_with_the_ranges_that_its_model_has(student, tmp_path):
    model, task = student
    task(model, batch_of(), step(0))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).train()
    options = EightBitsOptions()
    other = EightBitsTask(DetectionTask(again, torch.device("cpu"), None), options, again)
    known = {name: each.known() for name, each in task.watched.items()}
    assert {name: each.known() for name, each in other.watched.items()} == known
    torch.testing.assert_close(again.eval()(batch_of()["pixel_values"]).logits,
                               model.eval()(batch_of()["pixel_values"]).logits)  # fmt: skip


def test_it_goes_with_training_for_any_budget():
    model = small_model(dtype=torch.float32).train()
    task = AnyBudgetTask(model, torch.device("cpu"), AnyBudgetOptions())
    loss, parts = EightBitsTask(task, EightBitsOptions(), model)(model, batch_of(), step(0))
    assert loss.isfinite() and "loss_sparse_logits" in parts


def test_options_are_strict_and_empty_ones_are_none():
    assert read_eight_bits({}) is None and read_eight_bits({"on": False}) is None
    assert read_eight_bits(Recipe.from_dict({"epochs": 1, "eight_bits": {"on": True}}).eight_bits).on
    with pytest.raises(FocusDetrError, match="eight_bits: unknown key 'freeze'"):
        read_eight_bits({"freeze": 0.5})
    with pytest.raises(FocusDetrError, match="frozen_from.*must lie in"):
        read_eight_bits({"frozen_from": 2.0})


@pytest.mark.parametrize("pair", [[1.0, 2.0], [0.0], "wide", [-1.0, "2"]])
def test_a_configuration_with_ranges_that_are_none_is_refused(pair):
    with pytest.raises(FocusDetrError, match="activation_ranges.'layer'."):
        small_config(activation_ranges={"layer": pair})

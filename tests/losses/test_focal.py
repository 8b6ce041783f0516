"""Both forms of the focal loss: the same where both are finite, and one of them always is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focus_detr.losses.focal import naive_focal_loss, sigmoid_focal_loss

ALPHA, GAMMA = 0.25, 2.0
FORMS = [sigmoid_focal_loss, naive_focal_loss]


def loss_and_slope(form, logit, target, dtype=torch.float64):
    logit = torch.tensor(logit, dtype=dtype, requires_grad=True)
    loss = form(logit, torch.tensor(target, dtype=dtype), ALPHA, GAMMA)
    return loss, torch.autograd.grad(loss, logit)[0]


@pytest.mark.parametrize("form", FORMS)
def test_by_hand(form):
    p = 1 / (1 + math.exp(-1.5))
    found = form(torch.full((2,), 1.5, dtype=torch.float64), torch.tensor([1.0, 0.0]).double(), ALPHA, GAMMA)
    expected = [-0.25 * (1 - p) ** 2 * math.log(p), -0.75 * p**2 * math.log(1 - p)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("form", FORMS)
def test_without_focus_it_is_half_the_cross_entropy(form):
    logits, targets = torch.linspace(-4, 4, 9), torch.tensor([0.0, 1.0, 0, 1, 0, 1, 0, 1, 0])
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(form(logits, targets, 0.5, 0.0), entropy / 2)


@given(st.floats(-15, 15), st.sampled_from([0.0, 1.0]))
def test_forms_agree_where_the_sigmoid_is_not_saturated(logit, target):
    for stable, naive in zip(*(loss_and_slope(form, logit, target) for form in FORMS), strict=True):
        torch.testing.assert_close(stable, naive)


@pytest.mark.parametrize(
    ("logit", "target", "finite"), [(16.0, 0.0, True), (17.0, 0.0, False), (-100.0, 1.0, False)]
)
def test_where_the_released_form_is_infinite(logit, target, finite):
    loss, _ = loss_and_slope(naive_focal_loss, logit, target, torch.float32)
    assert bool(loss.isfinite()) == finite and (finite or loss > 0)


@given(st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, 1.0]))
def test_the_stable_form_is_finite_everywhere(logit, target):
    loss, slope = loss_and_slope(sigmoid_focal_loss, logit, target, torch.float32)
    assert loss.isfinite() and slope.isfinite() and loss >= 0


@pytest.mark.parametrize(("logit", "target", "slope"), [(50.0, 0.0, 0.75), (-150.0, 1.0, -0.25)])
def test_a_saturated_mistake_still_pulls_back(logit, target, slope):
    assert loss_and_slope(sigmoid_focal_loss, logit, target, torch.float32)[1] == pytest.approx(slope)

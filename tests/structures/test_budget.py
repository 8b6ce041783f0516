"""A budget is one number, and a policy's own shares follow from it by one rule."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focus_detr.errors import FocusDetrError
from focus_detr.structures.budget import Budget, scaled

SHARES = st.lists(st.integers(1, 100).map(lambda percent: percent / 100), min_size=1, max_size=7)


def mean(shares):
    return sum(shares) / len(shares)


@pytest.mark.parametrize("value", [0, 0.04, 1.001, -0.5, float("nan"), float("inf"), True, "half", [0.5]])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(FocusDetrError, match=r"budget=.*must be a number in \[0.05, 1.0\]"):
        Budget.of(value)


def test_a_share_is_a_budget_and_none_is_the_model_s_own():
    assert Budget.of(0.3) == Budget(0.3) == Budget.of(Budget(0.3))
    assert Budget.of(None) is None and Budget.of(1) == Budget(1.0)


@given(SHARES, st.integers(5, 100))
def test_scaled_shares_have_the_mean_asked_for(shares, percent):
    found = scaled(shares, percent / 100)
    assert mean(found) == Fraction(percent, 100)
    assert all(0 < share <= 1 for share in found)
    # One factor: what is not full keeps its proportions.
    factors = {share / Fraction(str(own)) for share, own in zip(found, shares, strict=True) if share < 1}
    assert len(factors) <= 1


@given(SHARES, st.integers(5, 99))
def test_no_share_falls_as_the_mean_grows(shares, percent):
    less, more = scaled(shares, percent / 100), scaled(shares, (percent + 1) / 100)
    assert all(a <= b for a, b in zip(less, more, strict=True))


def test_weights_count_in_the_mean():
    found = scaled([0.4, 0.8], Fraction(3, 5), [3, 1])
    assert found == [Fraction(12, 25), Fraction(24, 25)] and (3 * found[0] + found[1]) / 4 == Fraction(3, 5)


def test_with_its_own_mean_a_cascade_stays_as_it_is():
    cascade = [1.0, 0.8, 0.6, 0.6, 0.4, 0.2]
    ratio, found = Budget(0.3).cascade(0.5, cascade)
    assert ratio == Fraction(1, 2) and found == [Fraction(str(share)) for share in cascade]


def test_with_everything_all_layers_work_on_everything():
    assert Budget(1.0).cascade(0.3, [0.9, 0.1]) == (1, [1, 1])

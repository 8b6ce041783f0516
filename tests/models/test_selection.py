"""Which tokens are kept: exact counts, nested sets, ties in order."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focus_detr.models.selection import plan_tokens, share
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.rows import descending

PAPER = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2)


def unpadded(*shapes):
    return Geometry.unpadded(list(shapes), 1, torch.device("cpu"))


def test_counts_of_the_paper_at_800_by_1333():
    geometry = unpadded((100, 167), (50, 84), (25, 42), (13, 21))
    plan = plan_tokens(torch.randn(1, geometry.num_tokens), geometry, 0.5, PAPER)
    assert geometry.num_tokens == 22223
    assert plan.counts == (11112, 8889, 6667, 6667, 4444, 2222)
    assert plan.valid_counts is None and plan.indices.shape == (1, 11112)


def test_share_is_the_exact_floor():
    counts = torch.arange(1, 30001)
    for ratio in PAPER:
        exact = [int(Fraction(str(ratio)) * count) for count in range(1, 30001)]
        assert share(ratio, counts).tolist() == exact
        # The original's float32 product, truncated, agrees over its whole range of counts.
        assert (counts.float() * ratio).int().tolist() == exact


@given(st.integers(1, 10**7), st.sampled_from(["0.1", "0.29", "0.3", "0.7", "0.999"]))
def test_share_of_any_count(count, ratio):
    assert share(float(ratio), count) == int(Fraction(ratio) * count)


def test_sets_are_nested_and_best_first():
    scores = torch.randn(2, 100)
    geometry = Geometry.unpadded([(10, 10)], 2, torch.device("cpu"))
    plan = plan_tokens(scores, geometry, 0.5, (1.0, 0.5, 0.1))
    ranked = scores.gather(1, plan.indices)
    assert (ranked[:, 1:] <= ranked[:, :-1]).all()
    for layer, count in enumerate((51, 25, 5)):
        kept, valid = plan.kept(layer)
        assert kept.shape == (2, count) and valid.all()
        best = scores.topk(count).indices
        assert torch.equal(kept.sort().values, best.sort().values)


def test_ties_keep_their_order():
    assert descending(torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0]]), 4).tolist() == [[1, 2, 4, 0]]


def test_each_image_of_a_batch_has_its_own_counts():
    sizes = torch.tensor([[[8, 8]], [[4, 5]]])
    geometry = Geometry.padded([(8, 8)], sizes)
    plan = plan_tokens(torch.randn(2, 64), geometry, 0.5, (1.0, 0.5))
    assert plan.counts == (33, 16)
    assert plan.valid_counts.tolist() == [[33, 16], [11, 5]]
    kept, valid = plan.kept(0)
    assert geometry.valid[1][kept[1][valid[1]]].all() and valid.sum(1).tolist() == [33, 11]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_there_is_always_a_token_to_keep(tokens):
    plan = plan_tokens(torch.randn(1, tokens), unpadded((1, tokens)), 0.01, (1.0, 0.2))
    assert plan.counts == (1, 1)


def test_a_third_is_a_third_of_many_tokens():
    # As a decimal, a third has too many digits to be multiplied by large counts.
    assert share(1 / 3, 30_000) == 10_000
    assert share(1 / 3, torch.tensor([30_000, 22_223])).tolist() == [10_000, 7_407]

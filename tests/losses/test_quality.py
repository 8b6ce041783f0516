"""Class losses that want the overlap, by hand."""

from math import exp, log

import pytest
import torch

from focus_detr.losses.criterion import Weights
from focus_detr.losses.matcher import HungarianMatcher
from focus_detr.losses.objective import CLASS_LOSSES, Objective
from focus_detr.losses.quality import MatchabilityCriterion, VarifocalCriterion
from focus_detr.losses.targets import Matches, Predictions, Targets

PARTS = (HungarianMatcher(2.0, 5.0, 2.0, eps=0.0), Weights(2.0, 5.0, 2.0))
CRITERION = VarifocalCriterion(*PARTS)
LABEL = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}


def loss(logits, boxes, valid=None, criterion=CRITERION):
    each = Predictions(logits, boxes, Targets.of([LABEL]), valid=valid)
    first = torch.zeros(1, dtype=torch.int64)
    return criterion.losses(each, Matches(first, first, first), torch.tensor(4.0))["loss_class"]


def sigmoid(x):
    return 1 / (1 + exp(-x))


def test_a_match_should_be_as_likely_as_it_overlaps_and_the_rest_not_at_all():
    logits = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]], requires_grad=True)
    # Twice as high as the object, which it covers: an overlap of a half.
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]]], requires_grad=True)
    found = loss(logits, boxes)
    matched = -0.5 * (0.5 * log(sigmoid(2)) + 0.5 * log(1 - sigmoid(2)))
    rest = -0.75 * sum(sigmoid(x) ** 2 * log(1 - sigmoid(x)) for x in (0, 1, -1))
    assert found.item() == pytest.approx(2 * (matched + rest) / 4)
    found.backward()
    # The overlap teaches classes and is not taught by them; nor do weights have a gradient.
    assert boxes.grad is None
    expected = 2 * 0.75 * sigmoid(1) ** 2 * sigmoid(1) / 4
    assert logits.grad[0, 1, 0].item() == pytest.approx(expected)
    assert logits.grad[0, 0, 1].item() == pytest.approx(2 * 0.5 * (sigmoid(2) - 0.5) / 4)


def test_queries_that_stand_for_nothing_do_not_count():
    logits, boxes = torch.randn(1, 3, 2), torch.rand(1, 3, 4)
    valid = torch.tensor([[True, True, False]])
    torch.testing.assert_close(loss(logits, boxes, valid), loss(logits[:, :2], boxes[:, :2]))


def test_by_matchability_a_match_counts_in_full_however_badly_it_fits():
    logits = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]]])  # an overlap of a half, and none
    found = loss(logits, boxes, criterion=MatchabilityCriterion(*PARTS))
    wanted = 0.5**1.5
    matched = -(wanted * log(sigmoid(2)) + (1 - wanted) * log(1 - sigmoid(2)))
    rest = -sum(sigmoid(x) ** 1.5 * log(1 - sigmoid(x)) for x in (0, 1, -1))
    assert found.item() == pytest.approx(2 * (matched + rest) / 4)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_an_objective_has_the_class_loss_it_is_told(name):
    assert type(Objective(Weights(), Weights(), class_loss=name).criterion) is CLASS_LOSSES[name]

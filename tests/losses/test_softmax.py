"""DETR's class loss and cost, against what torch computes and by hand."""

import torch
import torch.nn.functional as F

from focus_detr.losses.criterion import Weights
from focus_detr.losses.softmax import SoftmaxCriterion, SoftmaxMatcher
from focus_detr.losses.targets import Predictions, Targets


def criterion():
    return SoftmaxCriterion(SoftmaxMatcher(1.0, 5.0, 2.0), Weights(), 0.1)


def test_the_class_loss_is_the_weighted_mean_over_all_queries():
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    answers = (torch.tensor([0, 0, 1]), torch.tensor([4, 1, 2]), torch.tensor([2, 0, 1]))
    truth = torch.tensor([[3, 0, 3, 3, 2], [3, 3, 1, 3, 3]])
    expected = F.cross_entropy(logits.transpose(1, 2), truth, torch.tensor([1.0, 1.0, 1.0, 0.1]))
    loss = criterion().class_loss(logits, answers, torch.tensor(3.0), None)
    torch.testing.assert_close(loss, expected)


def test_without_objects_it_says_that_there_are_none():
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = criterion().class_loss(logits, (none, none, none), torch.tensor(1.0), None)
    torch.testing.assert_close(loss, torch.tensor(4.0).log())
    loss.backward()
    assert (logits.grad[..., -1] < 0).all() and (logits.grad[..., :-1] > 0).all()


def test_queries_that_do_not_count_change_nothing():
    logits = torch.randn(1, 3, 3)
    answers = (torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    few = criterion().class_loss(logits[:, :2], answers, torch.tensor(1.0), None)
    valid = torch.tensor([[True, True, False]])
    torch.testing.assert_close(criterion().class_loss(logits, answers, torch.tensor(1.0), valid), few)


def test_an_object_goes_to_the_query_that_says_its_class():
    logits = torch.tensor([[[0.0, 5.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 5.0]]])
    boxes = torch.full((1, 3, 4), 0.5)
    label = {"class_labels": torch.tensor([0]), "boxes": torch.full((1, 4), 0.5)}
    (table,) = SoftmaxMatcher(1.0, 5.0, 2.0)([Predictions(logits, boxes, Targets.of([label]))])
    assert table.T.tolist() == [[0, 1, 0]]

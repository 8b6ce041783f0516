"""The losses of a set of predictions, by hand."""

from math import exp, log

import pytest
import torch

from focus_detr.losses.criterion import SetCriterion, Weights, num_boxes
from focus_detr.losses.focal import sigmoid_focal_loss
from focus_detr.losses.matcher import HungarianMatcher
from focus_detr.losses.targets import Matches, Predictions, Targets, denoising_matches

CRITERION = SetCriterion(HungarianMatcher(2.0, 5.0, 2.0), Weights(1.0, 5.0, 2.0))
BOX = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
LABEL = {"class_labels": torch.tensor([1]), "boxes": BOX}
EMPTY = {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}


def matched(logits, boxes, labels, count, suffix="", valid=None, criterion=CRITERION):
    return criterion.matched([Predictions(logits, boxes, Targets.of(labels), suffix, valid)], count)


def denoised(logits, boxes, labels, count, suffix, slots, groups):
    targets = Targets.of(labels)
    (matches,) = Matches.on_device([denoising_matches(targets.counts, slots, groups)], boxes.device)
    return CRITERION.losses(Predictions(logits, boxes, targets, suffix), matches, count * groups)


def test_one_object_two_queries():
    # The first query is near the object and sure of its class, 1.
    logits = torch.tensor([[[0.0, 2.0], [0.0, -1.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]]])
    found = matched(logits, boxes, [LABEL], torch.tensor(2.0), "_x")
    assert found.keys() == {"loss_class_x", "loss_bbox_x", "loss_giou_x"}
    half, sure, doubtful = 0.5, 1 / (1 + exp(-2)), 1 / (1 + exp(1))
    right = -0.25 * (1 - sure) ** 2 * log(sure)
    wrong = -0.75 * (2 * half**2 * log(1 - half) + doubtful**2 * log(1 - doubtful))
    assert found["loss_class_x"].item() == pytest.approx((right + wrong) / 2)
    assert found["loss_bbox_x"].item() == pytest.approx(5 * 0.2 / 2)
    # The object covers half of the prediction, which is also the hull of both.
    assert found["loss_giou_x"].item() == pytest.approx(2 * (1 - 0.5) / 2, abs=1e-4)


def test_queries_that_stand_for_nothing_cost_nothing():
    logits, boxes = torch.randn(1, 4, 2), torch.rand(1, 4, 4)
    valid = torch.tensor([[True, True, False, False]])
    found = matched(logits, boxes, [LABEL], torch.tensor(1.0), "", valid)
    fewer = matched(logits[:, :2], boxes[:, :2], [LABEL], torch.tensor(1.0), "")
    for name, value in fewer.items():
        torch.testing.assert_close(found[name], value)


def test_denoising_slots_answer_for_their_own_objects():
    # Two groups of 2 positive and 2 negative slots; the second image has one object, the others are padding.
    labels = [{"class_labels": torch.tensor([0, 1]), "boxes": torch.rand(2, 4) * 0.3 + 0.3}, LABEL]
    logits, boxes = torch.randn(2, 8, 2), torch.rand(2, 8, 4) * 0.3 + 0.3
    found = denoised(logits, boxes, labels, torch.tensor(3.0), "_dn", slots=4, groups=2)
    target, distance = torch.zeros(2, 8, 2), torch.tensor(0.0)
    for i, label in enumerate(labels):
        for group in range(2):
            for t, (kind, box) in enumerate(zip(label["class_labels"], label["boxes"], strict=True)):
                target[i, group * 4 + t, kind] = 1
                distance = distance + (boxes[i, group * 4 + t] - box).abs().sum()
    focal = sigmoid_focal_loss(logits, target, 0.25, 2.0).sum()
    torch.testing.assert_close(found["loss_class_dn"], focal / (3 * 2))
    torch.testing.assert_close(found["loss_bbox_dn"], 5 * distance / (3 * 2))
    # Negatives and empty slots answer for no box.
    slots = torch.tensor([[0, 1, 4, 5], [0, 4, 0, 4]])
    elsewhere = torch.full_like(boxes, 0.9).scatter(
        1, slots[..., None].expand(-1, -1, 4), boxes.gather(1, slots[..., None].expand(-1, -1, 4))
    )
    again = denoised(logits, elsewhere, labels, torch.tensor(3.0), "_dn", slots=4, groups=2)
    assert again["loss_giou_dn"] == found["loss_giou_dn"] > 0


def test_no_objects():
    logits, boxes = torch.randn(2, 3, 2, requires_grad=True), torch.rand(2, 3, 4, requires_grad=True)
    found = matched(logits, boxes, [EMPTY, EMPTY], num_boxes([EMPTY, EMPTY], boxes.device), "")
    assert found["loss_bbox"] == found["loss_giou"] == 0
    torch.testing.assert_close(
        found["loss_class"], sigmoid_focal_loss(logits, torch.zeros(2, 3, 2), 0.25, 2.0).sum()
    )
    sum(found.values()).backward()
    assert logits.grad.any() and boxes.grad is not None and not boxes.grad.any()


def test_denoising_without_objects():
    logits, boxes = torch.randn(1, 4, 2), torch.rand(1, 4, 4)
    found = denoised(logits, boxes, [EMPTY], torch.tensor(1.0), "_dn", slots=2, groups=2)
    assert found["loss_bbox_dn"] == found["loss_giou_dn"] == 0
    background = sigmoid_focal_loss(logits, torch.zeros(1, 4, 2), 0.25, 2.0).sum()
    torch.testing.assert_close(found["loss_class_dn"], background / 2)


def test_weights_multiply_their_own_part():
    logits, boxes = torch.randn(1, 3, 2), torch.rand(1, 3, 4) * 0.3 + 0.3
    one, three = (
        matched(logits, boxes, [LABEL], torch.tensor(1.0), criterion=SetCriterion(CRITERION.matcher, weights))
        for weights in (Weights(1.0, 1.0, 1.0), Weights(2.0, 3.0, 4.0))
    )
    for name, factor in (("loss_class", 2), ("loss_bbox", 3), ("loss_giou", 4)):
        torch.testing.assert_close(three[name], factor * one[name])


def test_the_count_is_at_least_one():
    assert num_boxes([EMPTY], torch.device("cpu")) == 1
    assert num_boxes([LABEL, LABEL, EMPTY], torch.device("cpu")) == 2


def test_far_matches_teach_no_box_where_an_overlap_is_asked_for():
    logits = torch.zeros(1, 2, 2)
    labels = [
        {
            "class_labels": torch.tensor([1, 1]),
            "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1]]),
        }
    ]
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]]])  # overlaps of a half and of nothing
    near = SetCriterion(CRITERION.matcher, CRITERION.weights, least_overlap=0.4)
    some, all_ = (
        matched(logits, boxes, labels, torch.tensor(2.0), criterion=each) for each in (near, CRITERION)
    )
    assert some["loss_class"] == all_["loss_class"]
    assert some["loss_bbox"].item() == pytest.approx(5 * 0.2 / 2)
    assert some["loss_giou"].item() == pytest.approx(2 * 0.5 / 2, abs=1e-4)
    assert all_["loss_bbox"].item() == pytest.approx(5 * (0.2 + 1.4) / 2)

"""Distillation: nothing to learn from one's equal, whatever the order; and teachers are not taught."""

import pytest
import torch

from focus_detr.losses.distillation import (
    RowWeights,
    TaughtObjects,
    feature_loss,
    matched,
    matched_losses,
    score_loss,
)

WEIGHTS = RowWeights()


def answers(seed=0, softmax=False, queries=12):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, queries, 4 if softmax else 3, generator=generator, dtype=torch.float64)
    boxes = 0.2 + 0.5 * torch.rand(2, queries, 4, generator=generator, dtype=torch.float64)
    return logits, boxes


def objects_of(logits, boxes, softmax, least=0.3):
    return TaughtObjects.of_queries(logits, boxes, softmax, least, 100)


@pytest.mark.parametrize("softmax", [False, True])
def test_there_is_nothing_to_learn_from_ones_equal_in_whatever_order(softmax):
    logits, boxes = answers(softmax=softmax)
    objects = objects_of(logits, boxes, softmax)
    assert min(objects.counts) > 2
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    for each in (slice(None), order):
        for loss in matched_losses(logits[:, each], boxes[:, each], objects, softmax, WEIGHTS):
            assert loss.item() == pytest.approx(0, abs=1e-4)  # overlaps are divided by a little more
    other = answers(1, softmax)
    here, there = (
        matched_losses(other[0][:, each], other[1][:, each], objects, softmax, WEIGHTS)
        for each in (slice(None), order)
    )
    torch.testing.assert_close(here, there)
    assert all(loss > 0.01 for loss in here)


def test_gradients_reach_the_queries_that_answer_and_never_the_teacher():
    logits, boxes = (each.requires_grad_() for each in answers())
    own = tuple(each.requires_grad_() for each in answers(1))
    objects = objects_of(logits, boxes, False)
    sum(matched_losses(*own, objects, False, WEIGHTS)).backward()
    assert logits.grad is None and boxes.grad is None
    matches = matched(*own, objects, False, WEIGHTS)
    answering = torch.zeros(2, 12, dtype=torch.bool)
    answering[matches.image, matches.query] = True
    for each in own:
        assert (each.grad.abs().sum(-1) > 0).equal(answering)


def test_what_the_teacher_is_not_sure_of_teaches_nothing():
    logits, boxes = answers()
    assert objects_of(logits - 30, boxes, False).counts == [0, 0]
    own = answers(1)
    assert sum(matched_losses(*own, objects_of(logits - 30, boxes, False), False, WEIGHTS)) == 0
    best = TaughtObjects.of_queries(logits, boxes, False, 0.0, 2)
    assert best.counts == [2, 2]
    torch.testing.assert_close(best.logits.amax(-1)[:, 0], logits.amax((1, 2)))


def test_queries_that_stand_for_nothing_answer_for_nothing():
    logits, boxes = answers()
    objects = objects_of(logits, boxes, False)
    own = logits.clone()
    own[:, :3] = torch.finfo(own.dtype).min
    assert set(range(3)).isdisjoint(matched(own, boxes, objects, False, WEIGHTS).query.tolist())


@pytest.mark.parametrize("channels", [8, 5])
def test_features_are_compared_at_the_tokens_that_were_kept(channels):
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(2, 10, 8, generator=generator)
    teacher = student.clone() if channels == 8 else student @ torch.eye(8, dtype=torch.float32)
    if channels == 5:  # tokens are as alike in fewer channels: three are empty
        student = torch.cat([student[..., :5], torch.zeros(2, 10, 3)], -1)
        teacher = 2 * student[..., :5]
    student.requires_grad_()
    kept = torch.tensor([[1, 3, 5], [0, 2, 4]]), torch.tensor([[True, True, True], [True, True, False]])
    assert feature_loss(student, teacher, kept).item() == pytest.approx(0, abs=1e-6)
    changed = teacher.clone()
    changed[0, 7] += 1.0
    changed[1, 4, 0] += 9.0
    assert feature_loss(student, changed, kept).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(student, changed, None) > 0.01
    changed[0, 3, 0] -= 3.0
    changed.requires_grad_()
    feature_loss(student, changed, kept).backward()
    assert changed.grad is None
    assert (student.grad[0, 3] != 0).any() and not student.grad[0, 7].any() and not student.grad[1, 4].any()


def test_scores_of_padding_are_not_compared():
    scores = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    other = scores.clone()
    other[1, 4:] += 2.0
    valid = torch.ones(2, 6, dtype=torch.bool)
    assert score_loss(scores, other, None) > 0.01 > score_loss(scores, scores, None)
    valid[1, 4:] = False
    assert score_loss(scores, other, valid).item() == pytest.approx(0, abs=1e-7)

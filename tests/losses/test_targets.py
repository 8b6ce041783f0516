"""The objects of a batch in one table, and matches that reach a device in one copy."""

import numpy as np
import torch

from focus_detr.losses.targets import Matches, Predictions, Targets, denoising_matches, repeated_matches


def test_images_are_padded_to_the_richest():
    labels = [
        {"class_labels": torch.arange(count) + 1, "boxes": torch.full((count, 4), float(count))}
        for count in (2, 0, 3)
    ]
    targets = Targets.of(labels)
    assert targets.counts == [2, 0, 3]
    assert targets.classes.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 3]]
    assert targets.boxes.shape == (3, 3, 4) and targets.boxes[..., 0].sum(1).tolist() == [4, 0, 9]
    assert targets.as_one_class().classes.tolist() == [[0] * 3] * 3 and targets.classes.any()


def test_no_objects_at_all():
    none = {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    targets = Targets.of([none, none])
    assert targets.classes.shape == (2, 0) and targets.boxes.shape == (2, 0, 4)
    assert denoising_matches(targets.counts, 4, 2).shape == (3, 0)


def test_positive_slots_answer_for_their_objects():
    # Two groups of four slots; the first image has two objects, the third one.
    found = denoising_matches([2, 0, 1], slots=4, groups=2)
    assert found.T.tolist() == [[0, 0, 0], [0, 1, 1], [0, 4, 0], [0, 5, 1], [2, 0, 0], [2, 4, 0]]


def test_several_tables_stay_apart():
    tables = [np.arange(6).reshape(3, 2), np.zeros((3, 0), np.int64), np.arange(3).reshape(3, 1)]
    for table, matches in zip(tables, Matches.on_device(tables, torch.device("cpu")), strict=True):
        assert np.stack([matches.image, matches.query, matches.object]).tolist() == table.tolist()


def answers(boxes, labels, one, valid=None):
    """[image, query, object] of `repeated_matches`, from the pairs of ``one`` (the same form)."""
    table = torch.tensor(one, dtype=torch.int64).reshape(-1, 3).T
    each = Predictions(torch.zeros(*boxes.shape[:2], 9), boxes, Targets.of(labels), valid=valid)
    found = repeated_matches(each, Matches(*table), 0.5)
    return torch.stack([found.image, found.query, found.object]).T.tolist()


TWO = {
    "class_labels": torch.tensor([3, 4]),
    "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]]),
}
NOTHING = {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
NEAR, BETWEEN, FAR = [0.5, 0.5, 0.2, 0.2], [0.57, 0.5, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]


def test_predictions_answer_for_the_object_that_they_overlap_most():
    boxes = torch.tensor([[NEAR, BETWEEN, FAR, NEAR], [[0.0, 0.0, 0.0, 0.0], NEAR, FAR, FAR]])
    valid = torch.ones(2, 4, dtype=torch.bool)
    valid[0, 3] = False
    found = answers(boxes, [TWO, NOTHING], [[0, 0, 0], [0, 1, 1]], valid)
    assert found == [[0, 0, 0], [0, 1, 1]]
    assert answers(boxes[:1], [NOTHING], []) == []


def test_an_object_s_own_prediction_answers_for_it_however_far_away():
    boxes = torch.tensor([[NEAR, NEAR, FAR, FAR]])
    # Of the two that lie on the first object it has its own alone: two objects share four predictions.
    found = answers(boxes, [TWO], [[0, 2, 1], [0, 0, 0]])
    assert found == [[0, 0, 0], [0, 2, 1]]


def test_objects_share_half_of_the_predictions():
    """Six of eight lie on one of two objects: it has the two that overlap it most, as the other would."""
    boxes = torch.tensor([[[0.5 + 0.005 * place, 0.5, 0.2, 0.2] for place in range(6)] + [FAR, FAR]])
    found = answers(boxes, [TWO], [[0, 0, 0], [0, 7, 1]])
    assert found == [[0, 0, 0], [0, 1, 0], [0, 7, 1]]
    alone = {name: value[:1] for name, value in TWO.items()}
    assert answers(boxes, [alone], [[0, 0, 0]]) == [[0, place, 0] for place in range(4)]

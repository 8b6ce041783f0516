"""The objects of a batch in one table, and matches that reach a device in one copy."""

import numpy as np
import torch

from focus_detr.losses.targets import Matches, Predictions, Targets, denoising_matches, overlapping_matches


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


def test_every_prediction_that_overlaps_an_object_answers_for_the_one_it_overlaps_most():
    labels = [
        {
            "class_labels": torch.tensor([3, 4]),
            "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]]),
        },
        {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
    ]
    near, between, far = [0.5, 0.5, 0.2, 0.2], [0.57, 0.5, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]
    boxes = torch.tensor([[near, between, far, near], [[0.0, 0.0, 0.0, 0.0], near, far, far]])
    valid = torch.ones(2, 4, dtype=torch.bool)
    valid[0, 3] = False
    found = overlapping_matches(
        Predictions(torch.zeros(2, 4, 9), boxes, Targets.of(labels), valid=valid), 0.5
    )
    assert torch.stack([found.image, found.query, found.object]).T.tolist() == [[0, 0, 0], [0, 1, 1]]
    none = overlapping_matches(Predictions(torch.zeros(1, 4, 9), boxes[:1], Targets.of(labels[1:])), 0.5)
    assert len(none.image) == len(none.query) == len(none.object) == 0

"""The objects of a batch in one table, and matches that reach a device in one copy."""

import numpy as np
import torch

from focus_detr.losses.targets import Matches, Targets, denoising_matches


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

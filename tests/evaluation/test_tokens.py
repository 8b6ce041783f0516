from types import SimpleNamespace

import pytest
import torch

from focus_detr.evaluation.tokens import ForegroundRecall, token_centres
from focus_detr.structures.plan import TokenPlan

SHAPES = [(4, 4), (2, 2)]  # 20 tokens


def outputs(indices, counts, valid_counts=None, level_sizes=None):
    indices = torch.tensor(indices)
    valid = None if valid_counts is None else torch.tensor(valid_counts)
    plan = TokenPlan(torch.zeros(len(indices), 20), indices, counts, valid)
    return SimpleNamespace(plan=plan, spatial_shapes=SHAPES, level_sizes=level_sizes)


def label(*boxes, orig_size=(400, 400)):
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "orig_size": torch.tensor(orig_size)}


def recall_of(*batches):
    recall = ForegroundRecall()
    for batch in batches:
        recall.update(*batch)
    return recall.compute()


def test_an_object_is_kept_by_one_token_inside_it():
    # Token 5 is row 1, column 1 of the first level: its centre is (0.375, 0.375).
    inside, outside = [0.375, 0.375, 0.3, 0.3], [0.8, 0.8, 0.3, 0.3]
    result = recall_of((outputs([[5, 0]], (2,)), [label(inside, outside)]))
    assert result["recall"]["all"] == [0.5] and result["objects"]["all"] == 2


def test_each_layer_has_its_own_recall():
    # Token 16 is the first of the coarse level, centre (0.25, 0.25); it is kept by the first layer only.
    result = recall_of((outputs([[15, 16]], (2, 1)), [label([0.25, 0.25, 0.1, 0.1])]))
    assert result["recall"]["all"] == [1.0, 0.0]


def test_rows_that_do_not_count_keep_nothing():
    box = label([0.375, 0.375, 0.3, 0.3])
    result = recall_of((outputs([[0, 5], [0, 5]], (2,), [[1], [2]]), [box, box]))
    assert result["recall"]["all"] == [0.5]


def test_centres_are_those_of_the_unpadded_image():
    # Of a canvas of 4x4 the image fills 4x2: the centre of column 1 lies at 0.75 of its width, not at 0.375.
    sizes = torch.tensor([[[4, 2], [2, 1]]])
    box = label([0.75, 0.375, 0.2, 0.2])
    assert recall_of((outputs([[5]], (1,), level_sizes=sizes), [box]))["recall"]["all"] == [1.0]
    assert recall_of((outputs([[5]], (1,)), [box]))["recall"]["all"] == [0.0]
    assert token_centres(SHAPES, sizes[0])[1].sum() == 8 + 2


def test_sizes_are_pixels_of_the_original_image():
    boxes = label([0.375, 0.375, 0.3, 0.3], orig_size=(100, 100))  # 30 x 30 pixels
    result = recall_of((outputs([[5]], (1,)), [boxes]))
    assert result["recall"]["small"] == [1.0] and result["recall"]["medium"] == [None]
    medium = recall_of((outputs([[5]], (1,)), [label([0.375, 0.375, 0.3, 0.3], orig_size=(107, 107))]))
    assert medium["objects"] == {"all": 1, "small": 0, "medium": 1, "large": 0}
    large = recall_of((outputs([[5]], (1,)), [label([0.375, 0.375, 0.3, 0.3], orig_size=(320, 320))]))
    assert large["objects"]["large"] == 1


def test_objects_between_all_tokens_are_unreachable():
    result = recall_of((outputs([[5]], (1,)), [label([0.5, 0.5, 0.05, 0.05], [0.8, 0.8, 0.3, 0.3])]))
    assert result["unreachable"]["all"] == 1 and result["recall"]["all"] == [0.0]


def test_batches_accumulate():
    kept, lost = label([0.375, 0.375, 0.3, 0.3]), label([0.8, 0.8, 0.1, 0.1])
    recall = ForegroundRecall()
    for boxes in (kept, lost, kept, label()):
        recall.update(outputs([[5]], (1,)), [boxes])
    assert recall.compute()["recall"]["all"] == [pytest.approx(2 / 3)]
    assert recall.summary() == {
        "foreground_recall": pytest.approx(2 / 3),
        "foreground_recall_last": pytest.approx(2 / 3),
        "foreground_recall_medium": 0.0,
        "foreground_recall_large": 1.0,
    }


def test_nothing_to_say_without_a_plan_or_objects():
    assert recall_of((SimpleNamespace(plan=None), [label([0.5, 0.5, 1, 1])])) == {}
    empty = recall_of((outputs([[5]], (1,)), [label()]))
    assert empty["recall"]["all"] == [None]
    assert ForegroundRecall().summary() == {}

"""The matcher finds the cheapest assignment."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_detr.losses.matcher import HungarianMatcher
from focus_detr.losses.targets import Predictions, Targets

MATCHER = HungarianMatcher(2.0, 5.0, 2.0)


def match(logits, boxes, labels, valid=None):
    """Queries and objects of each image."""
    (table,) = MATCHER([Predictions(logits, boxes, Targets.of(labels), valid=valid)])
    image, query, obj = torch.from_numpy(table)
    return [(query[image == i], obj[image == i]) for i in range(len(labels))]


def scene(queries, objects, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, queries, 3, generator=generator)
    boxes = 0.2 + 0.3 * torch.rand(1, queries, 4, generator=generator)
    label = {
        "class_labels": torch.randint(0, 3, (objects,), generator=generator),
        "boxes": 0.2 + 0.3 * torch.rand(objects, 4, generator=generator),
    }
    return logits, boxes, label


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**16))
def test_no_assignment_is_cheaper(queries, objects, seed):
    logits, boxes, label = scene(queries, objects, seed)
    cost = MATCHER.cost(logits[0], boxes[0], label["class_labels"], label["boxes"])
    ((query, obj),) = match(logits, boxes, [label])
    pairs = min(queries, objects)
    assert len(set(query.tolist())) == len(set(obj.tolist())) == len(query) == len(obj) == pairs
    wide = cost if queries <= objects else cost.T  # one row for each pair
    best = min(
        sum(wide[i, j].item() for i, j in enumerate(chosen))
        for chosen in permutations(range(wide.shape[1]), pairs)
    )
    assert cost[query, obj].sum().item() == pytest.approx(best, abs=1e-5)


def test_cost_by_hand():
    logits, boxes = torch.tensor([[0.0]]), torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    cost = MATCHER.cost(logits, boxes, torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.2, 0.4]]))
    log_half = -torch.tensor(0.5 + 1e-8).log()
    focal = 0.25 * 0.25 * log_half - 0.75 * 0.25 * log_half
    overlap = 0.04 / (0.08 + 1e-6)
    torch.testing.assert_close(cost, (2 * focal + 5 * 0.2 - 2 * overlap).view(1, 1))


def test_more_objects_than_queries():
    logits, boxes, label = scene(2, 6)
    ((query, obj),) = match(logits, boxes, [label])
    assert sorted(query.tolist()) == [0, 1] and len(set(obj.tolist())) == 2


def test_images_without_objects():
    logits, boxes, label = scene(4, 2)
    empty = {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}
    matches = match(logits.expand(3, -1, -1), boxes.expand(3, -1, -1), [empty, label, empty])
    assert [len(query) for query, _ in matches] == [0, 2, 0]
    for found, alone in zip(matches[1], match(logits, boxes, [label])[0], strict=True):
        assert torch.equal(found, alone)


def test_queries_that_stand_for_nothing_are_not_matched():
    logits, boxes, label = scene(4, 2)
    boxes[0, 0], logits[0, 0] = label["boxes"][0], 9.0  # the best by far
    assert 0 in match(logits, boxes, [label])[0][0].tolist()
    valid = torch.tensor([[False, True, True, True]])
    assert 0 not in match(logits, boxes, [label], valid)[0][0].tolist()


def test_nor_where_there_are_more_objects_than_queries_that_count():
    logits, boxes, label = scene(4, 3)
    valid = torch.tensor([[True, False, False, False]])
    assert match(logits, boxes, [label], valid)[0][0].tolist() == [0]


def test_predictions_that_are_not_numbers_are_left_to_the_loss():
    logits, boxes, label = scene(4, 2)
    boxes[0, 1] = float("nan")
    ((query, obj),) = match(logits, boxes, [label])
    assert 1 not in query.tolist() and sorted(obj.tolist()) == [0, 1]
    ((query, obj),) = match(logits, boxes * float("nan"), [label])
    assert len(set(query.tolist())) == 2 and sorted(obj.tolist()) == [0, 1]


def test_sets_of_a_step_are_matched_as_if_alone():
    sets = []
    for seed, objects in enumerate((3, 0, 7)):
        logits, boxes, label = scene(5, objects, seed)
        valid = torch.tensor([[True, True, False, True, True]]) if seed == 2 else None
        sets.append(Predictions(logits, boxes, Targets.of([label]), valid=valid))
    together = MATCHER(sets)
    assert [table.shape for table in together] == [(3, 3), (3, 0), (3, 4)]
    for each, table in zip(sets, together, strict=True):
        assert (MATCHER([each])[0] == table).all()


def test_an_image_is_matched_the_same_in_any_batch():
    scenes = [scene(6, objects, objects) for objects in (2, 0, 9, 4)]
    logits, boxes = (torch.cat([each[i] for each in scenes]) for i in (0, 1))
    together = match(logits, boxes, [label for _, _, label in scenes])
    for (logits, boxes, label), found in zip(scenes, together, strict=True):
        for mine, alone in zip(found, match(logits, boxes, [label])[0], strict=True):
            assert torch.equal(mine, alone)

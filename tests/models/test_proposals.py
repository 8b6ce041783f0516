"""Proposals (spec 1.3, 1.7)."""

import torch

from focus_detr.models.heads.boxes import move_boxes
from focus_detr.models.proposals import Proposals, cells
from focus_detr.structures.geometry import Geometry

CLASSES, CHANNELS = 5, 8


def test_tokens_at_the_border_make_no_proposal():
    geometry = Geometry.unpadded([(4, 60)], 1, torch.device("cpu"))
    logits, proposing = Proposals.anchors(geometry)
    assert not proposing.view(4, 60)[:, 0].any() and not proposing.view(4, 60)[:, -1].any()
    assert proposing.view(4, 60)[:, 1:-1].all()
    assert logits.view(4, 60, 4)[:, 0].isinf().all()
    middle = logits.view(4, 60, 4)[1, 29].sigmoid()
    torch.testing.assert_close(middle, torch.tensor([29.5 / 60, 1.5 / 4, 0.05, 0.05]))


def test_anchors_double_with_each_level():
    sides = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    geometry = Geometry.unpadded([(4, 4)] * len(sides), 1, torch.device("cpu"))
    logits, proposing = Proposals.anchors(geometry)
    for side, level, makes in zip(sides, geometry.split(logits), geometry.split(proposing), strict=True):
        if side < 0.99:
            torch.testing.assert_close(level[..., 2:].sigmoid(), torch.full((1, 16, 2), side))
        assert makes.all() if side < 0.99 else not makes.any()


def test_anchors_are_relative_to_the_image():
    geometry = Geometry.padded([(4, 6)], torch.tensor([[[4, 6]], [[2, 3]]]))
    logits, proposing = Proposals.anchors(geometry)
    alone, _ = Proposals.anchors(Geometry.unpadded([(2, 3)], 1, torch.device("cpu")))
    torch.testing.assert_close(logits[1].view(4, 6, 4)[:2, :3], alone.view(2, 3, 4))
    assert torch.equal(proposing, geometry.valid)


def test_border_tokens_propose_the_whole_image_and_still_learn():
    torch.manual_seed(0)
    proposals = Proposals(CHANNELS, CLASSES)
    geometry = Geometry.unpadded([(4, 60)], 1, torch.device("cpu"))
    memory = torch.randn(1, 240, CHANNELS, requires_grad=True)
    found = proposals.select(memory, geometry, torch.randn(300, CHANNELS), padded_queries=False)
    assert found.boxes.shape == (1, 240, 4) and found.valid is None  # fewer tokens than queries
    assert int((found.boxes == 1).all(-1).sum()) == 8
    assert not found.boxes.requires_grad
    (found.proposal_boxes.sum() + found.class_logits.sum()).backward()
    inner = memory.grad.abs().sum(-1).view(4, 60) > 0
    assert memory.grad.isfinite().all() and inner[:, 1:-1].all() and not inner[:, [0, -1]].any()


@torch.no_grad()
def test_queries_are_the_best_tokens_in_order_with_content_by_rank():
    torch.manual_seed(0)
    proposals = Proposals(CHANNELS, CLASSES)
    geometry = Geometry.unpadded([(5, 6)], 2, torch.device("cpu"))
    content = torch.randn(7, CHANNELS)
    found = proposals.select(torch.randn(2, 30, CHANNELS), geometry, content, padded_queries=False)
    best = found.class_logits.amax(-1)
    assert torch.equal(best, best.sort(-1, descending=True).values)
    assert torch.equal(found.content, content.expand(2, -1, -1))


@torch.no_grad()
def test_padding_never_becomes_a_query():
    torch.manual_seed(0)
    proposals = Proposals(CHANNELS, CLASSES).eval()
    geometry = Geometry.padded([(6, 6)], torch.tensor([[[6, 6]], [[2, 3]]]))
    memory = torch.randn(2, 36, CHANNELS)
    content = torch.randn(10, CHANNELS)
    chosen = proposals.select(memory, geometry, content, padded_queries=False)
    assert chosen.valid.sum(1).tolist() == [10, 6]
    crop = memory[1:].view(1, 6, 6, -1)[:, :2, :3].flatten(1, 2)
    alone = proposals.select(crop, Geometry.unpadded([(2, 3)], 1, memory.device), content, False)
    torch.testing.assert_close(chosen.boxes[1, :6], alone.boxes[0])
    torch.testing.assert_close(chosen.class_logits[1, :6], alone.class_logits[0])
    # As released, padding may be chosen: here there is nothing else left to choose.
    content = torch.randn(36, CHANNELS)
    released = proposals.select(memory, geometry, content, padded_queries=True)
    assert released.valid is None and int((released.boxes[1] == 1).all(-1).sum()) == 30
    assert proposals.select(memory, geometry, content, padded_queries=False).valid.sum(1).tolist() == [36, 6]


def test_cells_cover_each_image_level_by_level():
    geometry = Geometry.padded([(4, 6), (2, 3)], torch.tensor([[[4, 6], [2, 3]], [[3, 4], [2, 2]]]))
    boxes, inside = cells(geometry)
    assert torch.equal(inside, geometry.valid)
    alone, every = cells(Geometry.unpadded([(3, 4), (2, 2)], 1, torch.device("cpu")))
    assert every.all() and torch.equal(boxes[1][inside[1]], alone[0])
    for level, count in zip(alone[0].split([12, 4]), (12, 4), strict=True):
        torch.testing.assert_close(level[:, 2:].prod(-1), torch.full((count,), 1 / count))
    torch.testing.assert_close(alone[0, 1], torch.tensor([1.5 / 4, 0.5 / 3, 1 / 4, 1 / 3]))


def test_boxes_move_in_units_of_their_sides_and_never_overflow():
    start = torch.tensor([0.5, 0.4, 0.2, 0.1])
    moved = move_boxes(torch.tensor([1.0, -2.0, 0.0, 0.6931472]), start)
    torch.testing.assert_close(moved, torch.tensor([0.7, 0.2, 0.2, 0.2]))
    assert torch.equal(move_boxes(torch.zeros(4), start), start)
    assert move_boxes(torch.full((4,), 1000.0), start)[2:].max() < 13


def test_queries_may_start_as_their_tokens_and_boxes_as_their_cells():
    torch.manual_seed(0)
    proposals = Proposals(CHANNELS, CLASSES)
    proposals.box_head.start()
    geometry = Geometry.unpadded([(5, 6)], 2, torch.device("cpu"))
    memory = torch.randn(2, 30, CHANNELS)
    found = proposals.select(memory, geometry, 7, padded_queries=False, from_cells=True)
    best = proposals.class_head(proposals.norm(proposals.projection(memory))).amax(-1).topk(7).indices
    for i in range(2):
        assert torch.equal(found.content[i], memory[i, best[i]])
        torch.testing.assert_close(found.boxes[i], cells(geometry)[0][i, best[i]])

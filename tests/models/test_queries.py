"""Proposals and denoising queries (spec 1.3, 1.7, 1.11)."""

import pytest
import torch
from torch import nn

from focus_detr.losses.boxes import cxcywh_to_xyxy
from focus_detr.models.geometry import Geometry
from focus_detr.models.queries import Proposals, inverse_sigmoid, make_denoising_queries

CLASSES, CHANNELS = 5, 8


def labels(*counts, seeds=None):
    generator = torch.Generator().manual_seed(1)
    made = [
        {
            "class_labels": torch.randint(0, CLASSES, (count,), generator=generator),
            "boxes": 0.4 + 0.2 * torch.rand(count, 4, generator=generator),
        }
        for count in counts
    ]
    for label, seed in zip(made, seeds or [], strict=False):
        label["noise_seed"] = torch.tensor([seed])
    return made


@pytest.fixture(scope="module")
def embedding():
    torch.manual_seed(0)
    return nn.Embedding(CLASSES, CHANNELS)


def classes_of(content, embedding):
    return torch.cdist(content, embedding.weight).argmin(-1)


def test_layout(embedding):
    # 2 * 10 slots for at most 3 objects: 20 // 6 = 3 groups of 6 slots, the first half of each positive.
    made = make_denoising_queries(labels(3, 1, 0), embedding, 10, 0.0, 1.0)
    assert (made.groups, made.slots) == (3, 6) and made.content.shape == (3, 18, CHANNELS)
    used = made.content.abs().sum(-1).view(3, 3, 2, 3) > 0  # image, group, half, place
    assert used[0].all() and used[1, :, :, 0].all()
    assert not used[1, :, :, 1:].any() and not used[2].any()
    assert not made.boxes[2].any()  # a logit of 0: the middle of the image
    original = labels(3, 1, 0)[0]["class_labels"]
    for group in range(3):
        for half in range(2):
            start = group * 6 + half * 3
            found = classes_of(made.content[0, start : start + 3], embedding)
            assert torch.equal(found, original)


def test_no_more_groups_than_the_budget_allows(embedding):
    assert make_denoising_queries(labels(30), embedding, 10, 0.5, 1.0).groups == 1
    assert make_denoising_queries(labels(1), embedding, 100, 0.5, 1.0).groups == 100


def test_nothing_to_denoise(embedding):
    assert make_denoising_queries(labels(0, 0), embedding, 10, 0.5, 1.0) is None
    assert make_denoising_queries(labels(2), embedding, 0, 0.5, 1.0) is None


def test_positives_move_less_than_half_a_side_and_negatives_more(embedding):
    # Noise too little to turn a box inside out or to reach the border, so that all of it can be read off.
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.6, 0.3, 0.2]], dtype=torch.float64)
    given = {"class_labels": torch.tensor([0, 1]), "boxes": boxes}
    made = make_denoising_queries([given], nn.Embedding(CLASSES, CHANNELS).double(), 500, 0.0, 0.4)
    found = made.boxes.sigmoid().view(made.groups, 2, 2, 4)  # group, half, object
    half = boxes[:, 2:].repeat(1, 2) / 2
    moved = (cxcywh_to_xyxy(found) - cxcywh_to_xyxy(boxes)) / (half * 0.4)
    positive, negative = moved.abs().unbind(1)
    assert 0 <= positive.min() < 0.05 and 0.95 < positive.max() < 1 + 1e-9
    assert 1 - 1e-9 <= negative.min() < 1.05 and 1.95 < negative.max() < 2 + 1e-9
    assert (moved > 0).double().mean().item() == pytest.approx(0.5, abs=0.05)  # either way, each side alone


def test_noised_boxes_stay_in_the_image(embedding):
    given = {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.05, 0.95, 0.1, 0.1]])}
    boxes = make_denoising_queries([given], embedding, 200, 0.0, 1.0).boxes.sigmoid()
    corners = cxcywh_to_xyxy(boxes)
    assert corners.min() > -1e-2 and corners.max() < 1 + 1e-2  # but for the logit's clamp
    assert boxes.isfinite().all() and len(boxes[0].unique(dim=0)) > 150


def test_labels_are_flipped_as_often_as_asked(embedding):
    made = make_denoising_queries(labels(40), embedding, 4000, 0.5, 1.0)
    truth = labels(40)[0]["class_labels"].repeat(2 * made.groups)
    changed = (classes_of(made.content[0], embedding) != truth).float().mean()
    assert changed.item() == pytest.approx(0.25 * (1 - 1 / CLASSES), abs=0.02)


def test_random_numbers_in_the_order_of_the_original(embedding):
    given = labels(2, 1)
    torch.manual_seed(7)
    made = make_denoising_queries(given, embedding, 3, 0.5, 0.6)
    assert (made.groups, made.slots) == (1, 4)
    torch.manual_seed(7)
    classes = torch.cat([label["class_labels"] for label in given]).repeat(2)
    boxes = torch.cat([label["boxes"] for label in given]).repeat(2, 1)
    chosen = (torch.rand(6) < 0.25).nonzero().view(-1)
    classes = classes.scatter(0, chosen, torch.randint_like(chosen, 0, CLASSES))
    signs = torch.randint_like(boxes, 0, 2) * 2 - 1
    magnitude = torch.rand_like(boxes)
    magnitude[3:] += 1
    half = boxes[:, 2:].repeat(1, 2) / 2
    corners = torch.cat([boxes[:, :2] - half[:, :2], boxes[:, :2] + half[:, :2]], 1)
    corners = (corners + signs * magnitude * half * 0.6).clamp(0, 1)
    noised = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    expected = inverse_sigmoid(noised)
    # Tile by tile: the two objects of the first image, then the one of the second; positives, then negatives.
    torch.testing.assert_close(made.boxes[0], expected[[0, 1, 3, 4]])
    torch.testing.assert_close(
        made.boxes[1], torch.stack([expected[2], torch.zeros(4), expected[5], torch.zeros(4)])
    )
    torch.testing.assert_close(made.content[0], embedding(classes[[0, 1, 3, 4]]))


def test_seeded_noise_belongs_to_the_image(embedding):
    given = labels(2, 2, 1, seeds=[5, 6, 7])
    together = make_denoising_queries(given, embedding, 6, 0.5, 1.0)
    torch.manual_seed(123)
    for i in (0, 1):
        alone = make_denoising_queries([given[i]], embedding, 6, 0.5, 1.0)
        assert alone.groups == together.groups
        assert torch.equal(alone.boxes[0], together.boxes[i])
        assert torch.equal(alone.content[0], together.content[i])
    assert not torch.equal(together.boxes[0], together.boxes[1])
    beside_nothing = make_denoising_queries(labels(2, 0, seeds=[5, 6]), embedding, 6, 0.5, 1.0)
    assert torch.equal(beside_nothing.boxes[0], together.boxes[0]) and not beside_nothing.boxes[1].any()


def test_seeded_noise_leaves_the_global_generator_alone(embedding):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    make_denoising_queries(labels(2, 1, seeds=[5, 6]), embedding, 6, 0.5, 1.0)
    assert torch.equal(torch.get_rng_state(), state)
    make_denoising_queries(labels(2, 1, seeds=[5]), embedding, 6, 0.5, 1.0)  # the second image has no seed
    assert not torch.equal(torch.get_rng_state(), state)


def test_who_may_attend_to_whom(embedding):
    made = make_denoising_queries(labels(1), embedding, 2, 0.0, 1.0)
    assert (made.groups, made.slots) == (2, 2)
    allowed = made.attention_mask(3).int().tolist()
    group = [1, 1, 0, 0, 1, 1, 1]
    other = [0, 0, 1, 1, 1, 1, 1]
    match = [0, 0, 0, 0, 1, 1, 1]
    assert allowed == [group, group, other, other, match, match, match]


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

"""Denoising queries: contrastive ones (spec 1.11) and DN-DETR's (spec 4.1)."""

import pytest
import torch
from torch import nn

from focus_detr.models.hosts.denoising import contrastive_denoising, plain_denoising
from focus_detr.structures.boxes import cxcywh_to_xyxy, inverse_sigmoid

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
    made = contrastive_denoising(labels(3, 1, 0), embedding, 10, 0.0, 1.0)
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
    assert contrastive_denoising(labels(30), embedding, 10, 0.5, 1.0).groups == 1
    assert contrastive_denoising(labels(1), embedding, 100, 0.5, 1.0).groups == 100


def test_nothing_to_denoise(embedding):
    assert contrastive_denoising(labels(0, 0), embedding, 10, 0.5, 1.0) is None
    assert contrastive_denoising(labels(2), embedding, 0, 0.5, 1.0) is None


def test_positives_move_less_than_half_a_side_and_negatives_more(embedding):
    # Noise too little to turn a box inside out or to reach the border, so that all of it can be read off.
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.6, 0.3, 0.2]], dtype=torch.float64)
    given = {"class_labels": torch.tensor([0, 1]), "boxes": boxes}
    made = contrastive_denoising([given], nn.Embedding(CLASSES, CHANNELS).double(), 500, 0.0, 0.4)
    found = made.boxes.sigmoid().view(made.groups, 2, 2, 4)  # group, half, object
    half = boxes[:, 2:].repeat(1, 2) / 2
    moved = (cxcywh_to_xyxy(found) - cxcywh_to_xyxy(boxes)) / (half * 0.4)
    positive, negative = moved.abs().unbind(1)
    assert 0 <= positive.min() < 0.05 and 0.95 < positive.max() < 1 + 1e-9
    assert 1 - 1e-9 <= negative.min() < 1.05 and 1.95 < negative.max() < 2 + 1e-9
    assert (moved > 0).double().mean().item() == pytest.approx(0.5, abs=0.05)  # either way, each side alone


def test_noised_boxes_stay_in_the_image(embedding):
    given = {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.05, 0.95, 0.1, 0.1]])}
    boxes = contrastive_denoising([given], embedding, 200, 0.0, 1.0).boxes.sigmoid()
    corners = cxcywh_to_xyxy(boxes)
    assert corners.min() > -1e-2 and corners.max() < 1 + 1e-2  # but for the logit's clamp
    assert boxes.isfinite().all() and len(boxes[0].unique(dim=0)) > 150


def test_labels_are_flipped_as_often_as_asked(embedding):
    made = contrastive_denoising(labels(40), embedding, 4000, 0.5, 1.0)
    truth = labels(40)[0]["class_labels"].repeat(2 * made.groups)
    changed = (classes_of(made.content[0], embedding) != truth).float().mean()
    assert changed.item() == pytest.approx(0.25 * (1 - 1 / CLASSES), abs=0.02)


def test_random_numbers_in_the_order_of_the_original(embedding):
    given = labels(2, 1)
    torch.manual_seed(7)
    made = contrastive_denoising(given, embedding, 3, 0.5, 0.6)
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
    together = contrastive_denoising(given, embedding, 6, 0.5, 1.0)
    torch.manual_seed(123)
    for i in (0, 1):
        alone = contrastive_denoising([given[i]], embedding, 6, 0.5, 1.0)
        assert alone.groups == together.groups
        assert torch.equal(alone.boxes[0], together.boxes[i])
        assert torch.equal(alone.content[0], together.content[i])
    assert not torch.equal(together.boxes[0], together.boxes[1])
    beside_nothing = contrastive_denoising(labels(2, 0, seeds=[5, 6]), embedding, 6, 0.5, 1.0)
    assert torch.equal(beside_nothing.boxes[0], together.boxes[0]) and not beside_nothing.boxes[1].any()


def test_seeded_noise_leaves_the_global_generator_alone(embedding):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    contrastive_denoising(labels(2, 1, seeds=[5, 6]), embedding, 6, 0.5, 1.0)
    assert torch.equal(torch.get_rng_state(), state)
    contrastive_denoising(labels(2, 1, seeds=[5]), embedding, 6, 0.5, 1.0)  # the second image has no seed
    assert not torch.equal(torch.get_rng_state(), state)


def test_who_may_attend_to_whom(embedding):
    made = contrastive_denoising(labels(1), embedding, 2, 0.0, 1.0)
    assert (made.groups, made.slots) == (2, 2)
    allowed = made.attention_mask(3).int().tolist()
    group = [1, 1, 0, 0, 1, 1, 1]
    other = [0, 0, 1, 1, 1, 1, 1]
    match = [0, 0, 0, 0, 1, 1, 1]
    assert allowed == [group, group, other, other, match, match, match]


def test_plain_denoising_repeats_every_object_and_marks_it(embedding):
    made = plain_denoising(labels(3, 1, 0), embedding, 4, 0.0, 0.4)
    assert (made.groups, made.slots) == (4, 3) and made.content.shape == (3, 12, CHANNELS + 1)
    marked = made.content[..., -1].view(3, 4, 3)
    assert marked.tolist() == [[[1, 1, 1]] * 4, [[1, 0, 0]] * 4, [[0, 0, 0]] * 4]
    original = labels(3, 1, 0)[0]["class_labels"]
    assert torch.equal(classes_of(made.content[0, :, :-1], embedding), original.repeat(4))
    assert not made.boxes[2].any()


def test_plain_denoising_moves_centres_and_sides_by_as_much_as_asked():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.6, 0.3, 0.2]], dtype=torch.float64)
    given = {"class_labels": torch.tensor([0, 1]), "boxes": boxes}
    made = plain_denoising([given], nn.Embedding(CLASSES, CHANNELS).double(), 1000, 0.0, 0.4)
    moved = made.boxes.sigmoid().view(1000, 2, 4) - boxes
    share = moved / torch.cat([boxes[:, 2:] / 2, boxes[:, 2:]], 1) / 0.4
    assert -1 - 1e-9 < share.min() < -0.98 and 0.98 < share.max() < 1 + 1e-9
    assert share.mean((0, 1)).abs().max() < 0.06


def test_plain_denoising_relabels_as_often_as_asked(embedding):
    made = plain_denoising(labels(40), embedding, 200, 0.2, 0.4)
    truth = labels(40)[0]["class_labels"].repeat(200)
    changed = (classes_of(made.content[0, :, :-1], embedding) != truth).float().mean()
    assert changed.item() == pytest.approx(0.2 * (1 - 1 / CLASSES), abs=0.02)


def test_plain_denoising_of_nothing(embedding):
    assert plain_denoising(labels(0, 0), embedding, 5, 0.2, 0.4) is None
    assert plain_denoising(labels(2), embedding, 0, 0.2, 0.4) is None


def test_plain_noise_that_is_seeded_belongs_to_the_image(embedding):
    given = labels(2, 3, seeds=[5, 6])
    together = plain_denoising(given, embedding, 3, 0.5, 0.4)
    alone = plain_denoising([given[0]], embedding, 3, 0.5, 0.4)
    own = together.boxes[0].view(3, 3, 4)[:, :2].flatten(0, 1)
    assert torch.equal(alone.boxes[0], own)

"""Salience-DETR's host: proposals apart, levels fused within each image, and what it shares with DINO."""

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.images.suppression import without_duplicates
from focus_detr.models.hosts.salience_fusion import CellNorm, Fusion, nearest_within
from focus_detr.models.hosts.salience_proposals import best_apart, neighbours, without_neighbours
from focus_detr.structures.geometry import Geometry
from helpers.small_models import batch, image, labels, small_config, small_model

SHAPES = [(12, 17), (6, 9), (3, 5), (2, 3)]
TOTAL = sum(height * width for height, width in SHAPES)
WHOLE = Geometry.unpadded(SHAPES, 2, torch.device("cpu"))
SIZES = torch.tensor([[[12, 17], [6, 9], [3, 5], [2, 3]], [[9, 11], [5, 6], [3, 3], [2, 2]]])
PADDED = Geometry.padded(SHAPES, SIZES)
OFF = {"fusion": False, "apart": False, "class_loss": "focal"}


def suppressed(scores):
    """As released: non-maximum suppression of boxes of two cells a side."""
    boxes, levels = [], []
    for level, (height, width) in enumerate(SHAPES):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x, y = x.flatten().float(), y.flatten().float()
        boxes.append(torch.stack([x - 1, y - 1, x + 1, y + 1], -1))
        levels.append(torch.full_like(x, level))
    order = scores.argsort(descending=True)
    return order[without_duplicates(torch.cat(boxes)[order], torch.cat(levels)[order], 0.3)]


@pytest.mark.parametrize("seed", range(4))
def test_proposals_apart_are_those_that_suppression_leaves(seed):
    scores = torch.randn(2, TOTAL, generator=torch.Generator().manual_seed(seed))
    tokens, own = best_apart(scores, WHOLE, TOTAL, False, candidates=TOTAL)
    for i in range(2):
        assert torch.equal(tokens[i][own[i]], suppressed(scores[i]))
        assert not own[i].all() and own[i].int().diff().max() <= 0  # those that count come first


def test_only_the_best_take_part():
    scores = torch.randn(2, TOTAL, generator=torch.Generator().manual_seed(0))
    tokens, own = best_apart(scores, WHOLE, 30, False, candidates=30)
    best = scores.topk(30).indices
    for i in range(2):
        expected = [token for token in suppressed(scores[i]).tolist() if token in best[i].tolist()]
        assert tokens[i][own[i]].tolist() == expected
    assert not own.all()


@pytest.mark.parametrize("padded", [True, False])
def test_padding_proposes_only_as_released(padded):
    scores = torch.randn(2, TOTAL, generator=torch.Generator().manual_seed(0))
    tokens, own = best_apart(scores, PADDED, TOTAL, padded, candidates=TOTAL)
    among = PADDED.valid.gather(1, tokens)[own]
    assert among.all() != padded


def test_of_a_long_row_of_ever_worse_tokens_every_second_stays_as_far_as_it_is_settled():
    # Each waits for the one before it.
    shapes = [(1, 500)]
    rank = torch.arange(500)[None]
    stays = without_neighbours(rank, torch.zeros(1, 500, dtype=torch.bool), neighbours(shapes, rank.device))
    place = torch.arange(500)
    assert torch.equal(stays[0], (place % 2 == 0) & (place < 128))


def test_nearest_neighbours_are_those_of_the_image_alone():
    above = torch.randn(2, 4, *SHAPES[1])
    found = nearest_within(above, PADDED, 0)
    for i in range(2):
        (height, width), (rows, columns) = SIZES[i, 0].tolist(), SIZES[i, 1].tolist()
        alone = torch.nn.functional.interpolate(above[i : i + 1, :, :rows, :columns], (height, width))
        assert torch.equal(found[i, :, :height, :width], alone[0])


def test_statistics_are_those_of_the_cells_that_are_image():
    torch.manual_seed(0)
    maps, inside = torch.randn(2, 3, 4, 5).double(), torch.rand(2, 1, 4, 5) > 0.4
    ours, plain = CellNorm(3).double().train(), torch.nn.BatchNorm2d(3).double().train()
    cells = maps.permute(0, 2, 3, 1)[inside[:, 0]]  # (M,3)
    expected = plain(cells.T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(ours(maps, inside).permute(0, 2, 3, 1)[inside[:, 0]], expected)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(maps, inside), plain.eval()(maps))


def test_one_cell_alone_can_be_learned_from():
    torch.manual_seed(0)
    fusion = Fusion(16, 4).train()
    geometry = Geometry.unpadded([(8, 8), (4, 4), (2, 2), (1, 1)], 1, torch.device("cpu"))
    fused = fusion(torch.randn(1, 85, 16), geometry)
    fused.sum().backward()
    assert fused.shape == (1, 85, 16) and fused.isfinite().all()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


def test_padding_is_image_to_the_fusion_only_as_released():
    torch.manual_seed(0)
    fusion = Fusion(16, 4).double().eval()
    tokens = torch.randn(2, TOTAL, 16).double()
    other = torch.where(PADDED.valid[..., None], tokens, torch.randn_like(tokens))
    for padded in (False, True):
        one, two = (fusion(each, PADDED, padded)[PADDED.valid] for each in (tokens, other))
        assert torch.allclose(one, two, rtol=0, atol=1e-12) != padded


def test_without_its_own_parts_it_is_dino():
    ours = small_model(host="salience-detr", host_options=OFF)
    dino = small_model()
    dino.load_state_dict(ours.state_dict())
    truth = labels([2], [(96, 128)])
    pixels = image(96, 128)[None]
    one, other = (model(pixels, labels=truth) for model in (ours, dino))
    assert torch.equal(one.logits, other.logits)
    for name, value in other.loss_dict.items():
        torch.testing.assert_close(one.loss_dict[name], value, rtol=1e-3, atol=0)


@pytest.mark.parametrize("part", list(OFF))
def test_each_of_its_parts_can_be_left_out(part):
    changes = {"host": "salience-detr", "denoising_queries": 0}
    whole, without = small_model(**changes), small_model(**changes, host_options={part: OFF[part]})
    without.load_state_dict(whole.state_dict(), strict=part != "fusion")
    arguments = image(96, 128)[None], None, labels([2], [(96, 128)])
    one, other = whole(*arguments).loss_dict, without(*arguments).loss_dict
    assert one.keys() == other.keys() and one["loss_class"] != other["loss_class"]


@torch.no_grad()
def test_as_released_the_canvas_has_sides_of_32_times_as_many():
    model = small_model(host="salience-detr", token_policy="dense", quirks={"padded_backbone": True})
    picture = image(90, 100)
    alone = model(picture[None])
    assert alone.spatial_shapes[0] == (12, 16)  # of 96x128
    rounded = model(*batch([picture], extra=(6, 28)))
    assert torch.equal(alone.logits, rounded.logits)
    # Where padding is not seen there is no need for it, and other hosts see the image as it is.
    for changes in ({"host": "salience-detr"}, {"quirks": {"padded_backbone": True}}):
        assert small_model(token_policy="dense", **changes)(picture[None]).spatial_shapes[0] == (12, 13)


def test_unusable_options_are_refused():
    with pytest.raises(FocusDetrError, match=r"host_options\['candidates'\]=0: must lie in \[1"):
        small_config(host="salience-detr", host_options={"candidates": 0})

"""The foreground selector against spec 1.4 written out."""

import pytest
import torch
import torch.nn.functional as F

from focus_detr.models.policies.scoring import (
    MODULATIONS,
    ForegroundSelector,
    TokenScorer,
    category_priority,
    upsample_within,
)
from focus_detr.structures.geometry import Geometry

SHAPES = [(8, 12), (4, 6), (2, 3)]


def selector(channels=16, **options):
    torch.manual_seed(0)
    made = ForegroundSelector(channels, len(SHAPES), **options).double()
    torch.nn.init.uniform_(made.modulation, -0.3, 0.3)
    return made


def score(made, tokens):
    hidden = F.gelu(made.project(made.norm(tokens)))
    local, shared = hidden.chunk(2, -1)
    return made.score(torch.cat([local, shared.mean(1, keepdim=True).expand_as(local)], -1))[..., 0]


@torch.no_grad()
def test_top_down_modulation():
    made, geometry = selector(), Geometry.unpadded(SHAPES, 2, torch.device("cpu"))
    tokens = torch.randn(2, geometry.num_tokens, 16, dtype=torch.float64)
    z = geometry.split(tokens)
    s2 = score(made, z[2])
    up = F.interpolate(s2.view(2, 1, 2, 3), (4, 6), mode="bilinear", align_corners=True).flatten(1)
    s1 = score(made, z[1] * (1 + made.modulation[0] * up[..., None]))
    up = F.interpolate(s1.view(2, 1, 4, 6), (8, 12), mode="bilinear", align_corners=True).flatten(1)
    s0 = score(made, z[0] * (1 + made.modulation[1] * up[..., None]))
    torch.testing.assert_close(made(tokens, geometry), torch.cat([s0, s1, s2], 1), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("modulates", ["normalised", "scores"])
def test_what_acts_behind_the_norm_reaches_the_finer_levels(modulates, padded):
    made = selector(modulates=modulates)
    geometry = Geometry.unpadded(SHAPES, 2, torch.device("cpu"))
    if padded:
        own = torch.tensor(SHAPES)[None].expand(2, -1, -1).clone()
        own[0] -= 1
        geometry = Geometry.padded(SHAPES, own)
    tokens = torch.randn(2, geometry.num_tokens, 16, dtype=torch.float64)
    plain = selector(modulates=modulates)
    plain.modulation.zero_()
    one, none = geometry.split(made(tokens, geometry)), geometry.split(plain(tokens, geometry))
    assert torch.equal(one[2], none[2])
    for level, alpha in ((1, made.modulation[0]), (0, made.modulation[1])):
        above = one[level + 1].unflatten(1, SHAPES[level + 1])
        up = (
            upsample_within(above, geometry, level)
            if padded
            else (F.interpolate(above[:, None], SHAPES[level], mode="bilinear", align_corners=True)[:, 0])
        )
        up = alpha * up.flatten(1)
        if modulates == "scores":
            expected = none[level] + up
        else:
            valid = geometry.split(geometry.valid)[level] if padded else None
            expected = TokenScorer.forward(made, geometry.split(tokens)[level], valid, gain=1 + up)
        torch.testing.assert_close(one[level], expected, rtol=0, atol=1e-12)


def test_behind_the_norm_alone_a_positive_factor_changes_scores():
    """Why there are other forms than the released one: its scores are those without modulation, nearly."""
    geometry = Geometry.unpadded(SHAPES, 1, torch.device("cpu"))
    tokens = torch.randn(1, geometry.num_tokens, 16, dtype=torch.float64)
    moved = {}
    for modulates in MODULATIONS:
        made = selector(modulates=modulates)
        made.score[-1].bias.data.fill_(5.0)  # logits that are all positive
        made.modulation.data.fill_(0.1)
        plain = selector(modulates=modulates)
        plain.score[-1].bias.data.fill_(5.0)
        plain.modulation.data.zero_()
        moved[modulates] = (made(tokens, geometry) - plain(tokens, geometry)).abs().max().item()
    assert moved["tokens"] < 1e-4 < 1e-2 < min(moved["normalised"], moved["scores"])


@torch.no_grad()
def test_upsampling_within_the_image_is_that_of_the_image_alone():
    geometry = Geometry.padded(
        [(9, 11), (5, 6)], torch.tensor([[[7, 9], [4, 5]], [[9, 11], [5, 6]], [[1, 1], [1, 1]]])
    )
    scores = torch.randn(3, 5, 6, dtype=torch.float64)
    up = upsample_within(scores, geometry, 0)
    for i, ((h, w), (a, b)) in enumerate([((7, 9), (4, 5)), ((9, 11), (5, 6)), ((1, 1), (1, 1))]):
        expected = F.interpolate(scores[i, :a, :b][None, None], (h, w), mode="bilinear", align_corners=True)
        torch.testing.assert_close(up[i, :h, :w], expected[0, 0], rtol=0, atol=1e-12)


def test_two_negative_logits_rank_first_only_as_released():
    logits = torch.tensor([[[-4.0, -5.0], [2.0, -5.0]]])
    foreground = torch.tensor([[-3.0, 1.0]])
    assert category_priority(logits, foreground, raw=True).argmax() == 0
    assert category_priority(logits, foreground, raw=False).argmax() == 1

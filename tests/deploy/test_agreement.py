"""A deployed model decides as the one it was made from, up to scores that are equal to rounding.

Folded batch norms and fused convolutions round otherwise, by some 1e-6. Where two tokens' scores are nearer
than that they may change places; queries take learned contents by rank, so one token more or less in the kept
set can give most boxes of a picture another rank.
"""

import copy
from unittest import mock

import pytest
import torch

from focus_detr.deploy.deploy import ProjectedAttention, RowwiseFeedForward, deploy
from focus_detr.deploy.fusion import fuse_convolutions, replace_modules
from focus_detr.models.attention import DeformableAttention, FeedForward
from focus_detr.models.backbones.catalogue import backbone_config
from helpers.small_models import batch, image, small_model

POLICIES = ["focus", *(pytest.param(each, marks=pytest.mark.slow) for each in ("sparse", "dense"))]
ROUNDING = 1e-5  # of a score, relative to the spread of scores


def model_of(policy, dtype=torch.float32):
    return small_model(backbone_config("efficientnet-lite0"), token_policy=policy, dtype=dtype)


def odd_batch(seed, dtype=torch.float32):
    """One to five pictures of 64 to 200 pixels a side."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 6, (), generator=generator))
    sizes = torch.randint(64, 201, (count, 2), generator=generator).tolist()
    return batch([image(*size, seed=seed * 10 + i, dtype=dtype) for i, size in enumerate(sizes)])


class Sorting:
    """`torch.sort`, remembering its scores and its orders; ``orders``, if given, are said instead."""

    def __init__(self, orders=None):
        self.sort, self.orders = torch.sort, orders
        self.scores, self.own = [], []

    def __call__(self, scores, **options):
        order = self.sort(scores, **options).indices
        self.scores.append(scores)
        self.own.append(order)
        if self.orders is not None:
            order = self.orders[len(self.own) - 1]
        return torch.return_types.sort((scores.gather(1, order), order))


def run(model, inputs, orders=None):
    with mock.patch("torch.sort", Sorting(orders)) as sorting:
        return model(*inputs), sorting


@torch.no_grad()
@pytest.mark.parametrize("policy", POLICIES)
def test_in_float64_the_fused_form_is_the_same(policy):
    model = model_of(policy, torch.float64)
    fused = copy.deepcopy(model)
    fuse_convolutions(fused.backbone)
    fuse_convolutions(fused.neck)
    replace_modules(fused, (FeedForward,), RowwiseFeedForward)
    replace_modules(fused, (DeformableAttention,), ProjectedAttention)
    for seed in range(3):
        inputs = odd_batch(seed, torch.float64)
        mine, theirs = fused(*inputs), model(*inputs)
        torch.testing.assert_close(mine.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-9)
        torch.testing.assert_close(mine.logits, theirs.logits, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("policy", POLICIES)
def test_in_float32_only_scores_equal_to_rounding_change_places(policy):
    model = model_of(policy)
    deployed = deploy(model)
    for seed in range(8):
        inputs = odd_batch(seed)
        theirs, original = run(model, inputs)
        mine, sorting = run(deployed, inputs, original.own)
        torch.testing.assert_close(mine.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-4)
        for scores, order, own in zip(original.scores, original.own, sorting.own, strict=True):
            real = scores > torch.finfo(scores.dtype).min
            ranked, ranked_by_mine = scores.gather(1, order), scores.gather(1, own)
            tolerance = ROUNDING * float(scores[real].max() - scores[real].min())
            torch.testing.assert_close(ranked_by_mine, ranked, rtol=0, atol=tolerance, equal_nan=True)

"""Counting: against hand calculations on single layers, and against the spec's figures on whole models."""

import pytest
import torch
from torch import nn

from focus_detr import FocusDetrConfig
from focus_detr.benchmarking.macs import count_macs, count_parameters, counted
from focus_detr.errors import FocusDetrError
from focus_detr.models.attention import DeformableAttention, SelfAttention


def small(**fields):
    settings = dict(
        num_labels=2, d_model=32, attention_heads=4, encoder_layers=2, decoder_layers=1, cascade=[1.0, 0.5],
        encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=8, num_detections=8, num_fine_tokens=4,
    )  # fmt: skip
    return FocusDetrConfig.from_preset("focus-detr-lite0", **{**settings, **fields})


def macs(work, *inputs):
    with torch.no_grad():
        return counted(work, *inputs)[0]


def test_a_convolution_by_hand():
    # 5x4 outputs of 6 channels, each from 3x3 cells of 2 channels
    assert macs(nn.Conv2d(2, 6, 3, padding=1), torch.ones(1, 2, 5, 4)) == 5 * 4 * 6 * 9 * 2


def test_a_depthwise_convolution_counts_its_own_channel_only():
    assert macs(nn.Conv2d(6, 6, 3, padding=1, groups=6), torch.ones(1, 6, 5, 4)) == 5 * 4 * 6 * 9


def test_a_linear_layer_by_hand_and_a_batch_as_a_whole():
    assert macs(nn.Linear(7, 3), torch.ones(2, 5, 7)) == 2 * 5 * 7 * 3


def test_norms_and_activations_are_not_counted():
    layers = nn.Sequential(nn.LayerNorm(7), nn.GELU(), nn.Softmax(-1))
    assert macs(layers, torch.ones(2, 5, 7)) == 0


def test_self_attention_by_hand():
    queries, channels = 6, 8
    layer = SelfAttention(channels, heads=2).requires_grad_(False)
    nn.init.zeros_(layer.in_proj_weight)
    tokens = torch.ones(1, queries, channels)
    projections, products = 4 * queries * channels**2, 2 * queries**2 * channels
    assert macs(layer, tokens, tokens) == projections + products


def test_deformable_attention_by_hand():
    queries, channels, heads, levels, points = 5, 8, 2, 2, 3
    layer = DeformableAttention(channels, heads, levels, points).requires_grad_(False)
    shapes = [(4, 3), (2, 2)]
    value = torch.ones(1, 16, heads, channels // heads)
    references = torch.full((1, queries, levels, 2), 0.5)
    linear = queries * channels * (heads * levels * points * (2 + 1) + channels)
    sampling = queries * 4 * levels * points * channels
    assert macs(layer, torch.ones(1, queries, channels), references, value, shapes) == linear + sampling


@pytest.mark.parametrize("pair", [{}, {"host": "salience-detr", "token_policy": "salience"}])
def test_parts_make_up_the_whole_forward_pass(pair):
    from focus_detr import FocusDetrForObjectDetection

    config = small(**pair)
    model = FocusDetrForObjectDetection(config).eval().requires_grad_(False)
    cost = count_macs(config, 64, 96)
    assert cost.total == sum(cost.parts().values()) == macs(model, torch.zeros(1, 3, 64, 96))
    assert min(cost.parts().values()) > 0
    assert cost.parameters == count_parameters(model)


def test_a_smaller_budget_takes_operations_from_the_encoder_alone():
    full, half = (count_macs(small(keep_ratio=ratio), 64, 96) for ratio in (1.0, 0.5))
    tokens = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2
    assert full.tokens == tokens and full.kept == (tokens, tokens // 2)
    assert half.kept == (tokens // 2 + 1, (tokens // 2 + 1) // 2)
    assert half.kept_share == pytest.approx(sum(half.kept) / 2 / tokens)
    assert half.encoder < full.encoder
    for part in ("backbone", "neck", "scoring", "decoder"):
        assert getattr(half, part) == getattr(full, part)


def test_the_dense_policy_scores_nothing_and_works_on_every_token():
    cost = count_macs(small(token_policy="dense"), 64, 96)
    assert cost.scoring == 0 and cost.kept == (cost.tokens,) * 2 and cost.kept_share == 1


def test_counting_changes_neither_random_state_nor_back_end():
    from focus_detr.ops import describe_backends

    torch.manual_seed(0)
    state, before = torch.get_rng_state(), describe_backends()
    count_macs(small(), 64, 96)
    assert torch.equal(torch.get_rng_state(), state) and describe_backends() == before


def test_resnet50_at_800x1333_is_as_the_specification_measured_it():
    # 87.3 G for the backbone of 3.5; no weights are made, or this would take a gigabyte.
    from torch._subclasses.fake_tensor import FakeTensorMode

    from focus_detr.models.backbones.backbone import build_backbone

    with FakeTensorMode(), torch.no_grad():
        backbone = build_backbone(FocusDetrConfig.from_preset("focus-detr-r50").backbone_config)
        found = macs(backbone.eval().requires_grad_(False), torch.empty(1, 3, 800, 1333))
    assert found / 1e9 == pytest.approx(87.3, abs=0.05)


@pytest.mark.parametrize("size", [(16, 64), (64, 31)])
def test_a_size_without_a_coarsest_level_is_refused(size):
    with pytest.raises(FocusDetrError, match="32 pixels or more"):
        count_macs(small(), *size)

"""A new model starts as the original does (spec 1.14)."""

import math

import pytest
import torch

from focus_detr import FocusDetrForObjectDetection
from helpers.small_models import small_config


@pytest.fixture(scope="module")
def fresh():
    torch.manual_seed(0)
    return FocusDetrForObjectDetection(small_config())


def test_heads_start_rare_and_boxes_at_their_references(fresh):
    for head in (fresh.proposals.class_head, *fresh.host.class_heads):
        torch.testing.assert_close(head.bias, torch.full_like(head.bias, -math.log(99)))
    for head in (fresh.proposals.box_head, *fresh.host.box_heads):
        assert not head.layers[-1].weight.any() and not head.layers[-1].bias.any()
        assert head.layers[0].weight.any()
    assert fresh.encoder.selector.score[-1].bias.item() == pytest.approx(-math.log(99))
    assert fresh.encoder.selector.modulation.abs().max() <= 0.3 and fresh.encoder.selector.modulation.any()


def test_deformable_attention_looks_around_itself(fresh):
    attention = fresh.encoder.layers[0].deformable_attention
    offsets = attention.sampling_offsets.bias.view(4, 4, 4, 2)  # heads, levels, points
    assert not attention.sampling_offsets.weight.any() and not attention.attention_weights.weight.any()
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    torch.testing.assert_close(offsets[1, 2], torch.tensor([[0.0, 1], [0, 2], [0, 3], [0, 4]]))


def test_matrices_are_xavier_uniform(fresh):
    for weight in (fresh.host.decoder.layers[0].ffn.linear1.weight, fresh.host.query_content.weight):
        bound = math.sqrt(6 / sum(weight.shape))
        assert 0.95 * bound < weight.abs().max() <= bound
    for projection in fresh.neck.projections:
        assert not projection.conv.bias.any()
    assert fresh.level_embedding.std().item() == pytest.approx(1, abs=0.2)
    assert fresh.host.label_embedding.weight.std().item() == pytest.approx(1, abs=0.3)


def test_loading_keeps_what_was_trained(tmp_path, fresh):
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    fresh.save_pretrained(tmp_path)
    loaded = FocusDetrForObjectDetection.from_pretrained(tmp_path).state_dict()
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, loaded[name]), name

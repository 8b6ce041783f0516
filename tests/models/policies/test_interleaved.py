"""The interleaved policy: coarse levels always, fine ones at the end of each block (spec 4.4)."""

import pytest
import torch

from focus_detr.deploy.deploy import deploy
from focus_detr.deploy.precision import to_half_precision
from focus_detr.errors import FocusDetrError
from focus_detr.models.key_aware import KeyAwareAttention, sample_points
from focus_detr.ops.reference import grid_sample as deformable_reference
from focus_detr.structures.geometry import flatten_levels
from focus_detr.structures.tokens import Tokens
from helpers.small_models import batch, image, small_config, small_model

PICTURE = image(96, 128)[None]


def interleaved(layers=3, **options):
    return small_model(token_policy="interleaved", policy_options=options, encoder_layers=layers)


@torch.no_grad()
def inputs_of(model, pixels=PICTURE):
    levels, geometry = model.extract_levels(pixels, None)
    tokens = flatten_levels(levels)
    return tokens, model.encode_positions(geometry, tokens), geometry


@pytest.mark.parametrize("blocks", [1, 3])
@torch.no_grad()
def test_with_all_levels_high_it_is_the_dense_policy(blocks):
    model = interleaved(high_levels=4, blocks=blocks)
    dense = small_model(token_policy="dense")
    dense.load_state_dict(model.state_dict())
    one, other = model(PICTURE), dense(PICTURE)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.memory, other.memory)


def written_out(layer, tokens, rows, positions, geometry, low):
    """One layer on the rows of a set, token by token order kept, all else untouched."""
    references = geometry.references(tokens.dtype)
    value = layer.deformable_attention.project(tokens, None)
    updated = tokens.clone()
    for row in rows:
        one = slice(row, row + 1)
        query = tokens[:, one] + positions[:, one]
        attended = layer.deformable_attention(query, references[:, one], value, geometry.shapes)
        token = layer.deformable_attention_norm(tokens[:, one] + attended)
        small = row < low and hasattr(layer, "low_ffn")
        ffn, norm = (layer.low_ffn, layer.low_ffn_norm) if small else (layer.ffn, layer.ffn_norm)
        updated[:, one] = norm(token + ffn(token))
    return updated


@pytest.mark.parametrize(
    ("layers", "high_levels", "blocks", "ends"),
    [(3, 3, 1, {2}), (4, 2, 2, {1, 3}), (3, 1, 3, {0, 1, 2})],
)
@pytest.mark.parametrize("small_ffn", [True, False])
@torch.no_grad()
def test_layers_do_what_the_definition_says(layers, high_levels, blocks, ends, small_ffn):
    model = interleaved(layers, high_levels=high_levels, blocks=blocks, small_ffn=small_ffn)
    tokens, positions, geometry = inputs_of(model, image(64, 96)[None])
    low = sum(geometry.lengths[: 4 - high_levels])
    whole = Tokens(tokens, positions, geometry)
    plan = model.encoder.plan(whole)
    found = model.encoder(whole, plan).tokens
    expected = tokens
    for j, layer in enumerate(model.encoder.layers):
        rows = range(geometry.num_tokens) if j in ends else range(low, geometry.num_tokens)
        # The plan says what is executed.
        assert plan.kept(j)[0][0].sort().values.tolist() == list(rows)
        assert hasattr(layer, "low_ffn") == (small_ffn and j in ends)
        expected = written_out(layer, expected, rows, positions, geometry, low)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_small_network_is_as_wide_as_a_token():
    end = interleaved(high_levels=3, blocks=1).encoder.layers[-1]
    assert end.low_ffn.linear1.weight.shape == end.low_ffn.linear2.weight.shape == (32, 32)


@torch.no_grad()
def test_counts_of_a_batch_are_each_image_s_own():
    model = interleaved(high_levels=2, blocks=1)
    plan = model(*batch([image(96, 128), image(64, 70, seed=1)])).plan
    assert plan.scores is None
    assert plan.counts == (16, 16, 256)
    # 96x128: levels of 12x16, 6x8, 3x4, 2x2; 64x70: 8x9, 4x5, 2x3, 1x2.
    assert plan.valid_counts.tolist() == [[16, 16, 256], [8, 8, 100]]


@pytest.mark.parametrize("own_keys", [True, False])
@torch.no_grad()
def test_key_aware_attention_is_attention_to_sampled_keys(own_keys):
    torch.manual_seed(0)
    attention = KeyAwareAttention(16, 2, 2, 3, own_keys).double()
    for parameter in attention.parameters():
        parameter.normal_(0, 0.3)
    shapes = [(4, 5), (2, 3)]
    memory, queries = torch.randn(1, 26, 16).double(), torch.randn(1, 4, 16).double()
    references = torch.rand(1, 4, 2, 2).double()
    valid = torch.ones(1, 26, dtype=torch.bool)
    valid[:, 3] = False
    value = attention.project(memory, valid)
    found, (locations, said) = attention.attend(queries, references, value, shapes)
    torch.testing.assert_close(locations, attention.locate(queries, references, shapes), rtol=0, atol=0)
    project = attention.key_proj if own_keys else attention.value_proj
    key = project(memory).masked_fill(~valid[..., None], 0).unflatten(-1, (2, 8))
    query = attention.query_proj(queries).unflatten(-1, (2, 8))
    logits = torch.empty(1, 4, 2, 2, 3).double()
    for level in range(2):
        for point in range(3):
            # A point's key is what attention with all weight on it reads.
            weight = torch.zeros_like(logits)
            weight[:, :, :, level, point] = 1
            sampled = deformable_reference(key, shapes, locations, weight).unflatten(-1, (2, 8))
            logits[:, :, :, level, point] = (query * sampled).sum(-1) / 8**0.5
    weights = logits.flatten(-2).softmax(-1).unflatten(-1, (2, 3))
    torch.testing.assert_close(said, weights, rtol=0, atol=1e-12)
    mixed = deformable_reference(value[..., :8], shapes, locations, weights)
    torch.testing.assert_close(found, attention.output_proj(mixed), rtol=0, atol=1e-12)


def test_points_outside_read_zeros():
    value = torch.ones(1, 6, 2, 3)
    locations = torch.tensor([0.5, 3.0]).view(1, 1, 1, 1, 2, 1).expand(1, 1, 2, 1, 2, 2)
    sampled = sample_points(value, [(2, 3)], locations)
    assert sampled.shape == (1, 1, 2, 2, 3)
    assert (sampled[:, :, :, 0] == 1).all() and (sampled[:, :, :, 1] == 0).all()


def test_key_aware_is_an_option_of_every_layer():
    model = interleaved(key_aware=True)
    names = [name for name in model.state_dict() if name.startswith("encoder.")]
    assert any("key_proj" in name for name in names)
    assert not any("attention_weights" in name for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high_levels": 5}, r"policy_options\['high_levels'\]=5: must lie in \[1, 4\]"),
        ({"high_levels": 0}, "high_levels"),
        ({"blocks": 2}, r"\['blocks'\]=2: must divide encoder_layers=3; use one of 1, 3"),
        ({"blocks": 0}, "blocks"),
        ({"block": 1}, "unknown key 'block'"),
    ],
)
def test_unusable_options_are_refused(options, message):
    with pytest.raises(FocusDetrError, match=message):
        small_config(token_policy="interleaved", policy_options=options)


def test_the_decoder_can_be_key_aware_too():
    model = small_model(token_policy="interleaved", host_options={"key_aware": True, "own_keys": False})
    attention = [name for name in model.state_dict() if "cross_attention." in name]
    assert any("query_proj" in name for name in attention)
    assert not any("key_proj" in name or "attention_weights" in name for name in attention)
    assert not any("query_proj" in name for name in model.state_dict() if name.startswith("encoder."))


@torch.no_grad()
def test_deployed_it_answers_alike():
    key_aware = {"key_aware": True, "own_keys": False}
    model = small_model(
        token_policy="interleaved", policy_options=key_aware, host_options=key_aware, dtype=torch.float32
    )
    deployed = deploy(model)
    picture = PICTURE.float()
    torch.testing.assert_close(deployed(picture).pred_boxes, model(picture).pred_boxes, rtol=0, atol=1e-4)
    half = deploy(model)
    to_half_precision(half, torch.bfloat16)
    difference = half(picture).memory - model(picture).memory
    assert 0 < difference.abs().mean() < 0.05

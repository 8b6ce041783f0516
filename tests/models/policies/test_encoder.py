"""The compact encoder computes what the plain form of spec 1.6 does."""

import pytest
import torch

from focus_detr.structures.geometry import flatten_levels
from focus_detr.structures.tokens import Tokens
from helpers.small_models import batch, image, labels, small_model


def plain_encoder(model, tokens, positions, geometry, plan, original):
    """Spec 1.6 as it stands: gather from the full map in every layer, image by image, and write back."""
    encoder, head = model.encoder, model.proposals.class_head
    references = geometry.references(tokens.dtype)
    valid = geometry.valid if geometry.valid is not None else torch.ones(tokens.shape[:2], dtype=torch.bool)
    scores = torch.where(valid, plan.scores, plan.scores.min()) if original else plan.scores
    own = plan.valid_counts
    memory = tokens.clone()
    for j, layer in enumerate(encoder.layers):
        source = tokens if original else memory
        value = layer.deformable_attention.project(source, geometry.valid)
        updated = memory.clone()
        for b in range(len(tokens)):
            count = plan.counts[j] if original or own is None else int(own[b, j])
            index = plan.indices[b, :count]
            q, p, f = memory[b, index], positions[b, index], scores[b, index]
            category = head(q).max(-1).values
            priority = category * f if original else category.sigmoid() * f.sigmoid()
            picked = priority.sort(descending=True, stable=True).indices[: encoder.num_fine_tokens]
            fine = q[picked][None]
            attended = layer.self_attention(fine, p[picked][None])
            q = q.index_put((picked,), layer.self_attention_norm(fine + attended)[0])
            sampled = layer.deformable_attention(
                (q + p)[None], references[b, index][None], value[b][None], geometry.shapes
            )
            q = layer.deformable_attention_norm(q[None] + sampled)
            q = layer.ffn_norm(q + layer.ffn(q))[0]
            written = count if own is None else min(count, int(own[b, j]))
            updated[b, index[:written]] = q[:written]
        memory = updated
    return memory


@pytest.mark.parametrize("quirks", ["original", "corrected"])
@pytest.mark.parametrize("shapes", [[(96, 128)], [(96, 128), (80, 70), (128, 64)]])
@torch.no_grad()
def test_compact_equals_plain(quirks, shapes):
    model = small_model(quirks=quirks)
    if quirks == "original":
        model.train()  # padding masks are ignored in its evaluation
    pictures = [image(*shape, seed=i) for i, shape in enumerate(shapes)]
    pixels, mask = batch(pictures)
    levels, geometry = model.extract_levels(pixels, mask)
    tokens = flatten_levels(levels)
    positions = model.encode_positions(geometry, tokens)
    whole = Tokens(tokens, positions, geometry)
    plan = model.encoder.plan(whole)
    compact = model.encoder(whole, plan).tokens
    plain = plain_encoder(model, tokens, positions, geometry, plan, quirks == "original")
    torch.testing.assert_close(compact, plain, rtol=0, atol=1e-12)
    assert (compact - tokens).abs().max() > 0.1


@torch.no_grad()
def test_tokens_that_are_not_kept_stay_as_they_were():
    model = small_model()
    levels, geometry = model.extract_levels(image(96, 128)[None], None)
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
    output = model(image(96, 128)[None])
    untouched = torch.ones(geometry.num_tokens, dtype=torch.bool)
    untouched[output.plan.indices[0]] = False
    assert untouched.any()
    assert torch.equal(output.memory[0, untouched], tokens[0, untouched])


def test_checkpointed_layers_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = small_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(3)
        pixels, mask = batch([image(96, 80), image(64, 96, seed=1)])
        model(pixels, mask, labels([2, 1], [(96, 80), (64, 96)])).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)

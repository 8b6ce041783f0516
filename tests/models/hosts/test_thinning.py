"""Decoders that look at the foreground alone: what is kept has its own value, all else that of its mean."""

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.models.attention import DeformableAttention
from focus_detr.models.hosts.thinning import ThinMemory
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import Memory
from focus_detr.structures.plan import TokenPlan
from helpers.small_models import batch, image, labels, small_config, small_model

SHAPES = [(4, 6), (2, 3)]
HOSTS = ["dino", "deformable-detr", "dn-deformable-detr"]


def memory(geometry, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, geometry.num_tokens, 8, generator=generator, dtype=torch.float64)
    scores = torch.randn(2, geometry.num_tokens, generator=generator, dtype=torch.float64)
    return Memory(tokens, geometry, TokenPlan(scores, torch.zeros(2, 1, dtype=torch.long), (1,), None))


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_kept_tokens_have_their_own_values_and_the_rest_those_of_their_mean(padded):
    own = torch.tensor([[[4, 6], [2, 3]], [[3, 4], [1, 2]]])
    geometry = Geometry.padded(SHAPES, own) if padded else Geometry.unpadded(SHAPES, 2, torch.device("cpu"))
    full = memory(geometry)
    torch.manual_seed(0)
    attention = DeformableAttention(8, 2, 2, 2).double()
    values, thin = full.project(attention), ThinMemory.of(full, 0.3).project(attention)
    for image_index in range(2):
        valid = geometry.valid[image_index] if padded else torch.ones(geometry.num_tokens, dtype=torch.bool)
        count = int(0.3 * int(valid.sum())) + 1
        kept = full.plan.scores[image_index].masked_fill(~valid, -1e9).topk(count).indices
        rest = valid.clone()
        rest[kept] = False
        assert torch.allclose(thin[image_index, kept], values[image_index, kept])
        mean = values[image_index, rest].mean(0)
        assert torch.allclose(thin[image_index, rest], mean.expand(int(rest.sum()), -1, -1))
        assert not thin[image_index, ~valid].any()


@torch.no_grad()
@pytest.mark.parametrize(
    ("host", "option"), [*((host, "value_share") for host in HOSTS), ("dino", "proposal_share")]
)
def test_an_image_in_a_batch_is_the_image_alone(host, option):
    model = small_model(host=host, host_options={option: 0.3})
    images = [image(96, 128), image(64, 96, seed=1), image(17, 23, seed=2)]
    together = model(*batch(images))
    for index, each in enumerate(images):
        alone = model(each[None])
        torch.testing.assert_close(
            together.logits[index, : alone.logits.shape[1]], alone.logits[0], atol=1e-9, rtol=0
        )


@torch.no_grad()
def test_queries_come_from_the_foreground_alone():
    # Of 252 tokens 14 may become queries, which would be 20.
    model, picture = small_model(num_queries=20, host_options={"proposal_share": 0.05}), image(96, 128)[None]
    output = model(picture)
    count = output.logits.shape[1]
    assert 0 < count < 20
    decoded = []
    model.host.register_forward_hook(lambda module, given, found: decoded.append(found))
    scores = model(picture).plan.scores
    assert set(decoded[0].queries.tokens[0].tolist()) == set(scores[0].topk(count).indices.tolist())


@torch.no_grad()
def test_proposals_among_all_tokens_are_the_plain_ones():
    picture = image(96, 128)[None]
    plain, whole, few = (
        small_model(host_options={"proposal_share": share})(picture).logits for share in (1.0, 0.9999, 0.1)
    )
    torch.testing.assert_close(whole, plain, atol=1e-9, rtol=0)
    assert few.shape != plain.shape or (few - plain).abs().max() > 1e-4


@torch.no_grad()
def test_it_acts_and_with_all_tokens_it_is_the_plain_decoder():
    picture = image(96, 128)[None]
    plain, whole, thin = (
        small_model(host_options={"value_share": share})(picture).logits for share in (1.0, 0.9999, 0.2)
    )
    torch.testing.assert_close(whole, plain, atol=1e-9, rtol=0)
    assert (thin - plain).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("host", "option"), [*((host, "value_share") for host in HOSTS), ("dino", "proposal_share")]
)
def test_it_trains(host, option):
    model = small_model(host=host, host_options={option: 0.3}).train()
    model(image(96, 128)[None], labels=labels([2], [(96, 128)])).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host_options": {"value_share": 0.0}}, "value_share.*0.0"),
        ({"host_options": {"value_share": 1.5}}, "value_share.*1.5"),
        ({"host_options": {"value_share": 0.5}, "token_policy": "dense"}, "dense.*scores no tokens"),
        ({"host_options": {"proposal_share": 0.0}}, "proposal_share.*0.0"),
        ({"host": "salience-detr", "host_options": {"proposal_share": 0.5}}, "proposal_share.*apart: false"),
        ({"host_options": {"proposal_share": 0.5}, "token_policy": "dense"}, "proposal_share.*no tokens"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(FocusDetrError, match=message):
        small_config(**changes).check()

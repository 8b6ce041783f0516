"""Feed-forward networks as wide as a token's grade: what a token passes, what it saves, where it starts."""

import pytest
import torch

from focus_detr.benchmarking import count_macs
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.models.attention import FeedForward
from focus_detr.models.nested import NestedFeedForward
from focus_detr.structures.rows import add_rows
from helpers.small_models import batch, image, labels, small_config, small_model

HALF = {"policy_options": {"foreground_ffn": 0.5}}
PICTURES = [image(96, 128), image(70, 90, seed=1)]


@torch.no_grad()
def test_fine_grained_tokens_pass_all_units_and_the_others_the_first_ones():
    nested = NestedFeedForward(8, 12, 0.0, units=5).double()
    whole, small = FeedForward(8, 12).double(), FeedForward(8, 5).double()
    whole.load_state_dict(nested.state_dict())
    small.linear1.weight.copy_(nested.linear1.weight[:5])
    small.linear1.bias.copy_(nested.linear1.bias[:5])
    small.linear2.weight.copy_(nested.linear2.weight[:, :5])
    small.linear2.bias.copy_(nested.linear2.bias)
    tokens = torch.randn(2, 6, 8, dtype=torch.float64)
    fine = torch.tensor([[4, 0, 2], [5, -1, -1]])
    for network in (nested, nested.split()):
        found = network(tokens, fine)
        for i, rows in enumerate(({4, 0, 2}, {5})):
            for row in range(6):
                expected = (whole if row in rows else small)(tokens[i, row])
                torch.testing.assert_close(found[i, row], expected)


def test_rows_are_added_in_graphs_as_they_are_outside():
    class Adding(torch.nn.Module):
        def forward(self, tokens, indices, rows):
            return add_rows(tokens, indices, rows)

    inputs = torch.randn(2, 5, 3), torch.tensor([[3, -1], [0, 4]]), torch.randn(2, 2, 3)
    graph = torch.export.export(Adding(), inputs).module()
    expected = inputs[0].clone()
    for image_, row, place in ((0, 3, 0), (1, 0, 0), (1, 4, 1)):
        expected[image_, row] += inputs[2][image_, place]
    torch.testing.assert_close(graph(*inputs), expected)
    torch.testing.assert_close(add_rows(*inputs), expected)


@torch.no_grad()
def test_a_model_trained_without_grades_is_where_one_with_them_begins():
    plain, graded = small_model(), small_model(seed=1, **HALF)
    graded.load_state_dict(plain.state_dict())
    pixels, mask = batch(PICTURES)
    output = graded(pixels, mask)
    assert not torch.equal(output.logits, plain(pixels, mask).logits)
    for i, picture in enumerate(PICTURES):
        alone = graded(picture[None])
        torch.testing.assert_close(output.logits[i], alone.logits[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("policy", ["focus", "salience"])
@torch.no_grad()
def test_where_every_token_is_fine_grained_nothing_is_left_out(policy):
    options = {"token_policy": policy, "num_fine_tokens": 10_000}
    plain, graded = small_model(**options), small_model(**options, **HALF)
    graded.load_state_dict(plain.state_dict())
    pixels, mask = batch(PICTURES)
    torch.testing.assert_close(graded(pixels, mask).logits, plain(pixels, mask).logits)


@torch.no_grad()
def test_a_deployed_model_answers_like_its_own():
    model = small_model(dtype=torch.float32, **HALF)
    pixels, mask = batch([each.float() for each in PICTURES])
    found, expected = deploy(model)(pixels, mask), model(pixels, mask)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-3, atol=1e-4)


def test_training_reaches_every_unit():
    model = small_model(**HALF).train()
    model(PICTURES[0][None], labels=labels([2], [(96, 128)])).loss.backward()
    ffn = model.encoder.layers[0].ffn
    taught = ffn.linear1.weight.grad.abs().sum(1) > 0
    assert ffn.units == 24 and taught[:24].any() and taught[24:].any()
    assert (ffn.linear2.weight.grad.abs().sum(0) > 0)[24:].any()


@pytest.mark.slow
def test_operations_are_fewer_by_the_units_that_tokens_leave_out():
    plain, graded = (count_macs(small_config(**each), 160, 200) for each in ({}, HALF))
    left_out = sum(count - 12 for count in plain.kept) * 2 * 32 * (48 - 24)
    assert plain.encoder - graded.encoder == left_out
    assert plain.total - graded.total == left_out and plain.parameters == graded.parameters


@pytest.mark.parametrize("value", [0.0, 1.5, -0.5])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(FocusDetrError, match=f"'foreground_ffn'.={value}: must lie in"):
        small_config(policy_options={"foreground_ffn": value})


def test_without_dual_attention_no_token_is_fine_grained():
    with pytest.raises(FocusDetrError, match="without dual_attention no token is fine-grained"):
        small_config(policy_options={"foreground_ffn": 0.5, "dual_attention": False})

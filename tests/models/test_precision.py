"""Half precision: every host with every token policy, and what stays float32 in them."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from focus_detr import FocusDetrForObjectDetection
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.models.precision import FullLinear, FullMLP, float_dtype, full_precision_parts
from focus_detr.models.proposals import Proposals
from focus_detr.structures.geometry import Geometry
from helpers.pairs import PARAMETERS
from helpers.small_models import DETR, SWIN, batch, image, labels, small_model

TWO_STAGE = {"host_options": {"two_stage": True, "box_refinement": True}}
HOST_FIELDS = {"detr": DETR, "deformable-detr": TWO_STAGE}
CASES = {
    "learned-queries": {"host": "deformable-detr", "token_policy": "dense"},
    "key-aware": {"token_policy": "interleaved", "policy_options": {"key_aware": True}},
    "swin": {"backbone": SWIN},
}
# Of weights or autocast, and how far off half of the detections may be: boxes in shares of the image, and
# probabilities. Random weights leave near-ties everywhere, and a query that moves takes another content.
PRECISIONS = {
    "bf16-weights": (torch.bfloat16, None, 0.05),
    "fp16-weights": (torch.float16, None, 0.005),
    "bf16-autocast": (None, torch.bfloat16, 0.05),
    "fp16-autocast": (None, torch.float16, 0.005),
}
HALVES = (torch.bfloat16, torch.float16)
SIZES = [(64, 96), (72, 64)]


@pytest.fixture(params=[*PARAMETERS, *CASES])
def model(request):
    if request.param in CASES:
        return small_model(dtype=torch.float32, **CASES[request.param])
    host, policy = request.param
    fields = {**HOST_FIELDS.get(host, {}), "host": host, "token_policy": policy}
    return small_model(dtype=torch.float32, **fields)


@pytest.fixture
def images():
    return batch([image(*size, seed=i, dtype=torch.float32) for i, size in enumerate(SIZES)])


def run(model, images, precision, **options):
    weights, autocast, _ = PRECISIONS.get(precision, (None, None, None))
    pixels, mask = images
    if weights is not None:
        model, pixels = model.to(weights), pixels.to(weights)
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        return model(pixels, mask, **options)


def detections(model, output):
    softmax = model.config.scoring == "softmax"
    scores = output.logits.softmax(-1) if softmax else output.logits.sigmoid()
    return torch.cat([output.pred_boxes, scores], -1)  # (B,Q,4+k)


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_it_detects_what_it_detects_in_full_precision(model, images, precision):
    full = detections(model, model(*images))
    output = run(model, images, precision)
    found = detections(model, output)
    assert found.dtype == output.proposal_boxes.dtype == torch.float32
    if output.plan is not None and output.plan.scores is not None:
        assert output.plan.scores.dtype == torch.float32
    assert output.memory.dtype in HALVES or precision.endswith("autocast")
    apart = (full[:, :, None] - found[:, None]).abs().amax(-1)  # (B,Q,Q)
    assert apart.amin(-1).median() < PRECISIONS[precision][-1]


@pytest.mark.parametrize("precision", ["fp32", *PRECISIONS])
def test_its_losses_and_gradients_are_finite(model, images, precision):
    crowd, nothing = labels((25, 0), SIZES), labels((0, 0), SIZES)  # more objects than queries, and none
    crowd[0]["boxes"][3, 2:] = 0  # a box without extent
    scale = 2.0**6 if precision.startswith("fp16") else 1.0  # as a gradient scaler would find it
    model.train()
    for truth in (crowd, nothing):
        model.zero_grad()
        output = run(model, images, precision, labels=truth)
        assert {part.dtype for part in output.loss_dict.values()} == {torch.float32}
        assert all(part.isfinite() for part in output.loss_dict.values())
        (output.loss * scale).backward()
        trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        assert not [name for name, grad in trained.items() if grad is None or not grad.isfinite().all()]


@pytest.mark.parametrize("half", HALVES)
def test_queries_are_ranked_as_in_full_precision(half):
    torch.manual_seed(0)
    proposals = Proposals(32, 3)
    geometry = Geometry.unpadded([(24, 32), (12, 16)], 1, torch.device("cpu"))
    memory = torch.randn(1, geometry.num_tokens, 32).to(half)
    content = torch.zeros(100, 32)
    full = proposals.select(memory.float(), geometry, content, False)
    with torch.autocast("cpu", half):
        under_autocast = proposals.select(memory, geometry, content, False)
    cast = proposals.to(half).select(memory, geometry, content, False)
    for other in (under_autocast, cast):
        assert torch.equal(other.boxes, full.boxes) and torch.equal(other.class_logits, full.class_logits)


def test_what_decides_stays_float32_however_a_model_is_cast():
    parts = full_precision_parts(small_model(dtype=torch.float32))
    assert {"proposals", "encoder.selector", "host.class_heads.0"} <= set(parts)
    for cast in (nn.Module.half, nn.Module.bfloat16, lambda model: model.to("cpu", torch.float16)):
        model = cast(small_model(dtype=torch.float32))
        untouched = small_model(dtype=torch.float32)
        for name in parts:
            part, other = model.get_submodule(name), untouched.get_submodule(name)
            for mine, theirs in zip(part.state_dict().values(), other.state_dict().values(), strict=True):
                assert torch.equal(mine, theirs) and mine.dtype == torch.float32
        assert model.neck.projections[0].conv.weight.dtype in HALVES
        assert model.dtype in HALVES
    assert {p.dtype for p in small_model(dtype=torch.float32).double().parameters()} == {torch.float64}


@pytest.mark.parametrize("half", HALVES)
def test_loaded_in_half_precision_and_saved_again_it_is_the_same(half, tmp_path, images):
    model = small_model(dtype=torch.float32)
    model.save_pretrained(tmp_path / "full")
    loaded = FocusDetrForObjectDetection.from_pretrained(tmp_path / "full", dtype=half)
    loaded.save_pretrained(tmp_path / "half")
    again = FocusDetrForObjectDetection.from_pretrained(tmp_path / "half", dtype="auto")
    expected = model.to(half).state_dict()
    for state in (loaded.state_dict(), again.state_dict()):
        assert {n: t.dtype for n, t in state.items()} == {n: t.dtype for n, t in expected.items()}
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    # A model made from its configuration is new, and of one dtype.
    assert {p.dtype for p in FocusDetrForObjectDetection(loaded.config).parameters()} == {torch.float32}


@pytest.mark.parametrize("half", HALVES)
def test_heads_take_what_comes_and_give_float32(half):
    tokens = torch.randn(2, 5, 8)
    for head in (FullLinear(8, 3), FullMLP(8, 8, 3)):
        expected = head(tokens.to(half).float())
        with torch.autocast("cpu", half):
            assert torch.equal(head(tokens.to(half)), expected)
        assert torch.equal(head.to(half)(tokens.to(half)), expected)
        torch.testing.assert_close(head.double()(tokens.double()), head(tokens.double()))


@pytest.mark.parametrize("wrong", ["float12", "half", torch.int8])
def test_dtypes_that_weights_cannot_have(wrong):
    with pytest.raises(FocusDetrError, match="use one of float32, bfloat16, float16"):
        float_dtype(wrong)
    assert float_dtype("bfloat16") is float_dtype(torch.bfloat16) is torch.bfloat16


@pytest.mark.parametrize("half", HALVES)
@torch.no_grad()
def test_deployed_from_half_precision_it_computes_in_full(half, images):
    model = small_model(dtype=torch.float32).to(half)
    found = deploy(model)(*images)
    expected = model.float()(*images)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.pred_boxes, expected.pred_boxes, rtol=0, atol=1e-4)

"""Outputs, losses and gradients of the relatives' originals, from their weights (spec section 4)."""

import json
import re

import pytest
import torch

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.losses.attention_map import decoder_attention_map
from focus_detr.models.policies.poll_and_pool import PollAndPoolOptions
from focus_detr.structures.geometry import flatten_levels
from focus_detr.structures.tokens import Tokens
from helpers.checkpoints import DATA, in_training, original_model, training_batch

NAMES = ["deformable_detr_two_stage_r50", "sparse_detr_r50_rho03", "pnp_detr_r50"]
MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]


@pytest.fixture(params=NAMES)
def relative(request, tmp_path_factory):
    """(name, model in float64 without dropout, tensors of the original, conversion report)."""
    return original_model(request.param, tmp_path_factory, dropout=0.0)


def normalised(image):
    return (image.double() / 255 - MEAN) / STD


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


@pytest.mark.slow
@torch.no_grad()
def test_detections(relative):
    name, model, tensors, report = relative
    golden = {key[6:]: value for key, value in tensors.items() if key.startswith("eval0.")}
    check_detections(model.eval(), golden)


@pytest.mark.parametrize("relative", ["pnp_detr_r50"], indirect=True)
@torch.no_grad()
def test_detections_at_another_ratio(relative):
    name, model, tensors, report = relative
    golden = {key[6:]: value for key, value in tensors.items() if key.startswith("eval1.")}
    golden["image"] = tensors["eval0.image"]
    check_detections(model.eval(), golden, budget=golden["sample_ratio"].item())


def check_detections(model, golden, budget=None):
    output = model(normalised(golden["image"])[None], budget=budget)
    if "sample_reg_loss" in golden:
        score = output.plan.scores.gather(1, output.plan.indices).sigmoid().mean()
        close(score, golden["sample_reg_loss"].squeeze())
    if "backbone_topk_proposals" in golden:
        close(output.plan.scores, golden["backbone_mask_prediction"])
        kept = output.plan.indices.sort().values
        assert torch.equal(kept, golden["backbone_topk_proposals"].sort().values)
    close(output.logits, golden["pred_logits"])
    close(output.pred_boxes, golden["pred_boxes"])
    if "det_scores" not in golden:  # PnP-DETR's are those of the other ratio
        return
    found = FocusDetrImageProcessor(scoring=model.config.scoring).post_process_object_detection(
        output, threshold=0.0, target_sizes=[golden["image"].shape[1:]], top_k=100
    )[0]
    # PnP-DETR leaves its detections in the order of its queries.
    order = golden["det_scores"].argsort(descending=True, stable=True)
    golden |= {key: golden[key][order] for key in ("det_scores", "det_labels", "det_boxes")}
    close(found["scores"], golden["det_scores"])
    assert torch.equal(found["labels"], golden["det_labels"])
    # Boxes are clipped to the image here and not there.
    height, width = golden["image"].shape[1:]
    limits = torch.tensor([width, height, width, height])
    close(found["boxes"], golden["det_boxes"].clamp(min=0).minimum(limits), atol=1e-3)  # pixels


@pytest.mark.slow
def test_losses_and_gradients(relative, monkeypatch):
    name, model, tensors, report = relative
    golden = {key[7:]: value for key, value in tensors.items() if key.startswith("train0.")}
    in_training(model)
    if "sample_ratio" in golden:  # what the original drew
        ratio = golden["sample_ratio"].item()
        monkeypatch.setattr(model.encoder, "options", PollAndPoolOptions(training_keep_ratio=(ratio, ratio)))
    output = model(*training_batch(golden, normalised))

    metrics = r"class_error|cardinality_error|corr"
    expected = {
        ours(key.removeprefix("loss.")): value.squeeze()
        for key, value in golden.items()
        if key.startswith("loss.") and not re.match(rf"loss\.({metrics})", key)
    }
    assert output.loss_dict.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(output.loss_dict[key], value, rtol=1e-6, atol=0, msg=key)
    torch.testing.assert_close(output.loss, sum(expected.values()), rtol=1e-6, atol=0)

    output.loss.backward()
    keys = json.loads((DATA / f"{name}.train0.grad_keys.json").read_text())
    parameters = dict(model.named_parameters())
    trained = set()
    for key, value in zip(keys, golden["grad_norms"], strict=True):
        names = report.renamed[report.dropped.get(key, key).removeprefix("copy of ")]
        trained.update(names)
        norm = torch.stack([parameters[name].grad.norm() for name in names]).norm()
        torch.testing.assert_close(norm, value, rtol=1e-4, atol=1e-12, msg=f"{key}: {norm} {value}")
    backbone = {
        name for name, parameter in parameters.items() if parameter.requires_grad and "backbone" in name
    }
    assert backbone == {name for name in trained if "backbone" in name}


def covered_attention(plan, received, padded=False):
    """(B,): share of the decoder's attention (B,N) that falls on kept tokens (``corr`` in the release).

    ``padded``: also count the rows that only fill an image's set up to the largest of its batch, as released.
    """
    indices, rows = plan.kept(0)
    kept = received.gather(1, indices)
    return (kept if padded else kept * rows).sum(1) / received.sum(1).clamp(min=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("relative", ["sparse_detr_r50_rho03"], indirect=True)
@torch.no_grad()
def test_covered_attention(relative):
    name, model, tensors, report = relative
    golden = {key[7:]: value for key, value in tensors.items() if key.startswith("train0.")}
    pixels, mask, _ = training_batch(golden, normalised)
    levels, geometry = model.train().extract_levels(pixels, mask)
    content = flatten_levels(levels)
    tokens = Tokens(content, model.encode_positions(geometry, content), geometry)
    plan = model.encoder.plan(tokens)
    decoded = model.host(model.encoder(tokens, plan), with_samples=True)
    received = decoder_attention_map(decoded.samples, geometry, shifted=True)
    share = covered_attention(plan, received, padded=True).mean()
    torch.testing.assert_close(share, golden["loss.corr_mask_attn_map_dec_all"].squeeze(), rtol=1e-5, atol=0)


def ours(key):
    """Our name of a loss of theirs."""
    if key in ("loss_mask_prediction", "sample_reg_loss"):
        return "loss_token_scores"
    return key.replace("loss_ce", "loss_class")

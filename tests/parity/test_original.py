"""The originals' outputs, losses and gradients from their weights (spec sections 1.1 to 1.12)."""

import json
import re

import pytest
import torch

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.queries import DenoisingQueries
from helpers.checkpoints import DATA, in_training, training_batch

# The original keeps these in float32 whatever the precision of the model.
MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]


def normalised(image):
    return (image.double() - MEAN) / STD


def close(actual, expected, atol=1e-6):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


@torch.no_grad()
def test_detections(original):
    name, model, tensors, report = original
    golden = {key[6:]: value for key, value in tensors.items() if key.startswith("eval0.")}
    model.eval()
    output = model(normalised(golden["image"])[None])
    if "focus" in name:
        close(output.plan.scores, golden["foreground_score"])
        for layer in range(6):
            kept, valid = output.plan.kept(layer)
            assert valid.all()
            assert torch.equal(kept.sort().values, golden[f"kept_{layer}"].long().sort().values)
    close(output.memory.mean(-1), golden["memory_mean"])
    close(output.memory[..., :8], golden["memory_head"])
    close(output.proposal_boxes, golden["enc_boxes"])
    close(output.pred_boxes, golden["pred_boxes"])
    close(output.logits, golden["pred_logits"])
    found = FocusDetrImageProcessor().post_process_object_detection(
        output, threshold=0.0, target_sizes=[golden["image"].shape[1:]]
    )[0]
    close(found["scores"], golden["det_scores"])
    assert torch.equal(found["labels"], golden["det_labels"])
    close(found["boxes"], golden["det_boxes"], atol=1e-2)  # pixels


def drawn_denoising(model, golden):
    # A row is one of the label embedding's: looked up, so that the embedding gets its gradient.
    content, table = golden["dn_query_label"], model.host.label_embedding.weight
    used = content.abs().sum(-1) > 0
    classes = torch.cdist(content[used], table.detach()).argmin(-1)
    assert torch.equal(table.detach()[classes], content[used])
    content = torch.zeros_like(content).masked_scatter(used[..., None], table[classes])
    slots, groups = golden["dn_meta"].tolist()
    return DenoisingQueries(content, golden["dn_query_box"], slots, groups)


# There is no training fixture of the one with Swin.
@pytest.mark.parametrize(
    "original", ["focus_detr_r50", pytest.param("dino_r50", marks=pytest.mark.slow)], indirect=True
)
def test_losses_and_gradients(original):
    name, model, tensors, report = original
    golden = {key[7:]: value for key, value in tensors.items() if key.startswith("train0.")}
    in_training(model)
    pixels, mask, labels = training_batch(golden, normalised)
    denoising = drawn_denoising(model, golden)
    output = model(pixels, mask, labels, denoising=denoising)

    assert torch.equal(~denoising.attention_mask(900), golden["dn_attn_mask"])
    if output.plan is not None:
        valid = Geometry.padded(output.spatial_shapes, output.level_sizes).valid
        scores = torch.where(valid, output.plan.scores, output.plan.scores.min())
        close(scores, golden["foreground_score"])
    expected = {key[5:]: value for key, value in golden.items() if key.startswith("loss.")}
    renamed = {key.replace("select_loss", "loss_foreground"): value for key, value in expected.items()}
    assert output.loss_dict.keys() == renamed.keys()
    for key, value in renamed.items():
        torch.testing.assert_close(output.loss_dict[key], value.squeeze(), rtol=1e-9, atol=0, msg=key)
    torch.testing.assert_close(output.loss, sum(renamed.values()).squeeze(), rtol=1e-9, atol=0)

    output.loss.backward()
    keys = json.loads((DATA / f"{name}.train0.grad_keys.json").read_text())
    mine = gradient_norms(model, report)
    for original_key, value in zip(keys, golden["grad_norms"], strict=True):
        key = unaliased(original_key)
        torch.testing.assert_close(mine[key], value, rtol=1e-8, atol=1e-12, msg=f"{key}: {mine[key]} {value}")


def gradient_norms(model, report):
    """Norms by the original's keys: a tensor that was split has the norm of its parts together."""
    parameters = dict(model.named_parameters())
    norms = {}
    for key, names in report.renamed.items():
        gradients = [parameters[name].grad for name in names if name in parameters]
        if gradients and all(gradient is not None for gradient in gradients):
            norms[key] = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return norms


def unaliased(key):
    key = re.sub(r"^transformer\.decoder\.(class_embed|bbox_embed)", r"\1", key)
    return re.sub(r"^transformer\.encoder\.enhance_MCSP\.\d", "class_embed.6", key)

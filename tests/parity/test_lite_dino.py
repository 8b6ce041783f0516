"""Lite-DETR on DINO: outputs, losses and gradients of the original from its weights (spec 4.4)."""

import re

import pytest
import torch

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.geometry import flatten_levels
from focus_detr.structures.tokens import Tokens
from helpers.checkpoints import in_training, original_model, padded, training_batch
from helpers.parity import check_gradients, check_losses, close, drawn_denoising, normalised, tensors_of

KEY_AWARE, PLAIN = "lite_dino_r50", "lite_dino_r50_plain"


def lite(name, tmp_path_factory):
    """(name, model in float64 with a row for each category id, tensors of the original, report)."""
    return original_model(name, tmp_path_factory, num_labels=91)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "part"), [(KEY_AWARE, "eval1"), (KEY_AWARE, "eval0"), (PLAIN, "eval0")])
@torch.no_grad()
def test_detections(name, part, tmp_path_factory):
    _, model, tensors, _ = lite(name, tmp_path_factory)
    golden = tensors_of(tensors, part)
    images = [golden[key] for key in sorted(golden) if key.startswith("image")]
    pixels, mask = padded([normalised(each) for each in images])
    output = model.eval()(pixels, mask if len(images) > 1 else None)

    valid = ~golden["padding"] if "padding" in golden else torch.ones_like(output.memory[..., 0]).bool()
    close(output.memory.mean(-1)[valid], golden["memory_mean"][valid], 1e-9)
    close(output.memory[..., :8][valid], golden["memory_head"][valid], 1e-6)
    close(output.proposal_boxes, golden["enc_boxes"], 1e-9)
    close(output.pred_boxes, golden["pred_boxes"], 1e-9)
    close(output.logits, golden["pred_logits"], 1e-5)  # as they are rounded
    sizes = [each.shape[1:] for each in images]
    found = FocusDetrImageProcessor().post_process_object_detection(output, threshold=0.0, target_sizes=sizes)
    for i, (each, (height, width)) in enumerate(zip(found, sizes, strict=True)):
        suffix = f"_{i}" if len(images) > 1 else ""
        close(each["scores"], golden[f"det_scores{suffix}"], 1e-9)
        assert torch.equal(each["labels"], golden[f"det_labels{suffix}"])
        # Boxes are clipped to the image here and not there.
        limits = torch.tensor([width, height, width, height])
        close(each["boxes"], golden[f"det_boxes{suffix}"].clamp(min=0).minimum(limits), 1e-3)  # pixels


@pytest.mark.slow
@torch.no_grad()
def test_every_encoder_layer(tmp_path_factory):
    _, model, tensors, _ = lite(KEY_AWARE, tmp_path_factory)
    golden = tensors_of(tensors, "eval0")
    levels, geometry = model.eval().extract_levels(normalised(golden["image"])[None], None)
    content = flatten_levels(levels)
    means = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda _, __, output: means.append(output.mean(-1)))
    model.encoder(Tokens(content, model.encode_positions(geometry, content), geometry), None)
    assert len(means) == 6
    for j, mean in enumerate(means):
        close(mean, golden[f"layer_mean_{j}"], 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", [KEY_AWARE, PLAIN])
def test_losses_and_gradients(name, tmp_path_factory):
    _, model, tensors, report = lite(name, tmp_path_factory)
    golden = tensors_of(tensors, "train0")
    in_training(model)
    pixels, mask, labels = training_batch(golden, normalised)
    output = model(pixels, mask, labels, denoising=drawn_denoising(model, golden))
    check_losses(output, golden, lambda key: key.replace("_ce", "_class").replace("_interm", "_enc"))
    output.loss.backward()
    check_gradients(
        model, golden, name, report, lambda key: re.sub(r"^transformer\.decoder\.(\w+_embed)", r"\1", key)
    )

"""Salience-DETR: kept sets, outputs, losses and gradients of the original from its weights (spec 4.5)."""

import copy

import pytest
import torch

from focus_detr.images.processor import FocusDetrImageProcessor
from helpers.checkpoints import in_training, original_model, training_batch
from helpers.parity import check_gradients, check_losses, close, drawn_denoising, normalised, tensors_of

NAME = "salience_detr_r50"


@pytest.fixture
def salience(tmp_path_factory):
    """(model in float64 with a row for each category id, tensors of the original, report)."""
    _, model, tensors, report = original_model(NAME, tmp_path_factory, num_labels=91)
    return copy.deepcopy(model), tensors, report  # training moves its batch statistics


def check_kept(plan, golden):
    close(plan.scores, golden["foreground_score"], 1e-12)
    for layer in range(6):
        kept = plan.indices[:, : plan.counts[layer]].sort().values
        assert torch.equal(kept, golden[f"kept_{layer}"].long().sort().values), layer


def chosen_tokens(model):
    """Where the tokens that propose will be: filled by the next pass."""
    chosen, choose = [], model.host.choose

    def remembering(*arguments):
        chosen.append(choose(*arguments))
        return chosen[-1]

    model.host.choose = remembering
    return chosen


# The second one's sides are no multiples of 32: it is padded, alone.
@pytest.mark.slow
@pytest.mark.parametrize("part", ["eval0", "eval1"])
@torch.no_grad()
def test_detections(salience, part):
    model, tensors, _ = salience
    golden = tensors_of(tensors, part)
    chosen, fused = chosen_tokens(model), []
    model.host.fusion.register_forward_hook(lambda _, __, output: fused.append(output))
    output = model.eval()(normalised(golden["image"])[None])

    check_kept(output.plan, golden)
    close(output.memory.mean(-1), golden["encoder_mean"], 1e-12)
    close(fused[0].mean(-1), golden["memory_mean"], 1e-12)
    close(fused[0][..., :8], golden["memory_head"], 1e-6)  # as they are rounded
    (tokens, own), *_ = chosen
    assert own.all() and torch.equal(tokens, golden["query_index"].long())
    close(output.proposal_boxes, golden["enc_boxes"], 1e-9)
    close(output.pred_boxes, golden["pred_boxes"], 1e-9)
    close(output.logits, golden["pred_logits"], 1e-5)  # as they are rounded
    height, width = golden["image"].shape[1:]
    (found,) = FocusDetrImageProcessor().post_process_object_detection(
        output, threshold=0.0, target_sizes=[(height, width)]
    )
    close(found["scores"], golden["det_scores"], 1e-9)
    assert torch.equal(found["labels"], golden["det_labels"])
    # Boxes are clipped to the image here and not there.
    limits = torch.tensor([width, height, width, height])
    close(found["boxes"], golden["det_boxes"].clamp(min=0).minimum(limits), 1e-3)  # pixels


@pytest.mark.slow
def test_losses_and_gradients(salience):
    model, tensors, report = salience
    golden = tensors_of(tensors, "train0")
    in_training(model)
    chosen = chosen_tokens(model)
    pixels, mask, labels = training_batch(golden, normalised, multiple=32)
    output = model(pixels, mask, labels, denoising=drawn_denoising(model, golden))
    check_kept(output.plan, golden)
    assert torch.equal(chosen[0][0], golden["query_index"].long())
    check_losses(output, golden, lambda key: key.replace("salience", "foreground"))
    output.loss.backward()
    check_gradients(
        model, golden, NAME, report, lambda key: report.dropped.get(key, key).removeprefix("copy of ")
    )

"""The baseline computes what our models compute: otherwise being quicker than it would mean nothing."""

import importlib.util
from pathlib import Path

import pytest
import torch

from focus_detr import FocusDetrForObjectDetection
from focus_detr.errors import FocusDetrError
from helpers.small_models import small_model

ROOT = Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Straightforward = load("straightforward").Straightforward


def images(batch=2):
    return torch.randn(batch, 3, 96, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("policy", ["focus", "dense"])
def test_it_answers_as_our_model_does(policy):
    model = small_model(token_policy=policy, quirks="original")
    with torch.no_grad():
        ours, plain = model(images()), Straightforward(model)(images())
    torch.testing.assert_close(plain["logits"], ours.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain["pred_boxes"], ours.pred_boxes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["focus", "dense"])
def test_it_learns_as_our_model_does(policy):
    labels = [
        {
            "class_labels": torch.tensor([0, 2]),
            "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.5, 0.4]], dtype=torch.float64),
            "size": torch.tensor([96, 128]),
        }
        for _ in range(2)
    ]
    model = small_model(token_policy=policy, quirks="original").train()
    losses = []
    for form in (model, Straightforward(model)):
        torch.manual_seed(0)  # of the denoising queries
        losses.append(form(pixel_values=images(), labels=labels)["loss"])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss, model.encoder.layers[0].ffn.linear1.weight)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_it_does_more_work_than_our_model():
    from focus_detr.benchmarking.macs import counted

    model = small_model(quirks="original", dtype=torch.float32).requires_grad_(False)
    with torch.no_grad():
        ours, plain = (counted(form, images().float())[0] for form in (model, Straightforward(model)))
    assert plain > ours


def test_another_computation_is_refused():
    model: FocusDetrForObjectDetection = small_model(quirks="corrected")
    with pytest.raises(FocusDetrError, match="original"):
        Straightforward(model)

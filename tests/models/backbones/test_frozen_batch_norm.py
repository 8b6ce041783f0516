"""Frozen batch norms keep the dtype they are given, whatever is wanted of them."""

import pytest
import torch
from torch import nn

from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.frozen_batch_norm import FrozenBatchNorm2d
from helpers.small_models import RESNET

HALVES = (torch.bfloat16, torch.float16)


def norm(trainable=False):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(6)
    for tensor in (plain.weight.data, plain.bias.data, plain.running_mean, plain.running_var):
        tensor.uniform_(0.5, 2)
    return FrozenBatchNorm2d.from_batch_norm(plain, trainable)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("cast", [False, True])
def test_half_in_half_out(half, trainable, cast):
    x = torch.randn(2, 6, 5, 4).to(half)
    expected = norm()(x.float())
    frozen = norm(trainable).to(half) if cast else norm(trainable)
    assert frozen.running_var.dtype == torch.float32
    with torch.autocast("cpu", half, enabled=not cast):
        with torch.no_grad():
            inferring = frozen(x)
        x.requires_grad_()
        training = frozen(x)
        training.sum().backward()
    assert x.grad.dtype == half and x.grad.isfinite().all()
    for found in (inferring, training):
        assert found.dtype == half
        torch.testing.assert_close(found.detach().float(), expected, rtol=2**-6, atol=2**-6)


def test_under_autocast_no_map_is_kept_in_float32():
    backbone, kept = build_backbone(RESNET).train(), []

    def keep(tensor):
        kept.append((tensor.dtype, tuple(tensor.shape)))
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        maps = backbone(torch.randn(7, 3, 64, 64))
    assert {each.dtype for each in maps} == {torch.bfloat16}
    of_images = {dtype for dtype, shape in kept if len(shape) == 4 and shape[0] == 7 and shape[1] > 3}
    assert of_images == {torch.bfloat16}

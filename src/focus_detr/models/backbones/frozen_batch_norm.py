"""Batch norm with frozen statistics: detection batches are too small to estimate them."""

# Shapes: B images, C channels, H W height and width.

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr.models.precision import FullPrecision


class FrozenBatchNorm2d(FullPrecision):
    """Batch norm that always normalises with its running statistics, in training too.

    Its tensors stay float32 in half precision, and what it returns is of the dtype it was given. State-dict
    names are those of ``nn.BatchNorm2d`` less ``num_batches_tracked``.

    Args:
        num_features: channels C.
        eps: added to the variance.
        trainable_affine: make ``weight`` and ``bias`` parameters; otherwise they are buffers.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, trainable_affine: bool = False) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self._set_affine(torch.ones(num_features), torch.zeros(num_features), trainable_affine)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d, trainable_affine: bool = False) -> "FrozenBatchNorm2d":
        """Take over the tensors of ``norm`` (same device, dtype and storage)."""
        frozen = cls(0, norm.eps)
        frozen.num_features = norm.num_features
        del frozen.weight, frozen.bias
        frozen._set_affine(norm.weight.detach(), norm.bias.detach(), trainable_affine)
        frozen.register_buffer("running_mean", norm.running_mean)
        frozen.register_buffer("running_var", norm.running_var)
        return frozen.train(norm.training)

    def _set_affine(self, weight: Tensor, bias: Tensor, trainable: bool) -> None:
        for name, value in (("weight", weight), ("bias", bias)):
            if trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B,C,H,W) to the same shape."""
        if torch.is_grad_enabled() and x.requires_grad and not self.weight.requires_grad:
            # An affine map with constant factors keeps no activation for the backward pass.
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            scale, shift = scale.to(x.dtype), shift.to(x.dtype)  # or the product would be of the wider dtype
            return torch.addcmul(shift[:, None, None], x, scale[:, None, None])
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, trainable_affine={self.weight.requires_grad}"


def freeze_batch_norms(module: nn.Module, trainable_affine: bool = False) -> nn.Module:
    """Replace every ``nn.BatchNorm2d`` below ``module`` by its frozen form, in place; names stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d.from_batch_norm(child, trainable_affine))
        else:
            freeze_batch_norms(child, trainable_affine)
    return module


@torch.no_grad()
def measure_statistics(module: nn.Module, images: Tensor) -> None:
    """Sets the statistics of every frozen norm below ``module`` to those of a batch of images (B,3,H,W).

    For weights that start from random numbers: with means of 0 and variances of 1 each residual block adds
    its input's variance once more, and activations grow from stage to stage (as LSUV, Mishkin & Matas 2016,
    but for the statistics, not the weights). One pass does, as each norm is set before it is used.
    """

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, FrozenBatchNorm2d)
        variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    norms = [each for each in module.modules() if isinstance(each, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        if norms:
            module(images)
    finally:
        for hook in hooks:
            hook.remove()

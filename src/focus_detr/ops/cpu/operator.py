"""The CPU back end as torch operators, visible to autograd, torch.compile and torch.export.

`focus_detr::msda_cpu`           forward; value in float32, bfloat16 or float64
`focus_detr::msda_cpu_backward`  the three gradients
`focus_detr::msda_cpu_projected` forward from the queries' projections, without a gradient

Positions and weights are float32, or float64 with a float64 value. `shapes` is H, W of each level, flat.
"""

# Shapes: B images, N tokens of all levels, Q queries, h heads, D = C/h channels of a head, L levels, P
# points.

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from focus_detr.ops.cpu import library


def _sizes(value: Tensor, weights: Tensor) -> tuple[int, ...]:
    _, queries, _, levels, points = weights.shape
    return *value.shape, queries, levels, points


def _operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """The operator of this name in torch, computed by ``function``, which changes none of its arguments.

    As `torch.library.custom_op`, whose calls import torch's compiler, at the cost of importing torch again.
    """
    name = f"focus_detr::{function.__name__}"
    schema = torch.library.infer_schema(function, mutates_args=())
    torch.library.define(name, schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(name, "cpu", function)
    operator: Callable[..., Any] = getattr(torch.ops.focus_detr, function.__name__)
    return operator


@_operator
def msda_cpu(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """value (B,N,h,D), locations (B,Q,h,L,P,2), weights (B,Q,h,L,P) -> (B,Q,h*D)."""
    batch, queries, heads = weights.shape[:3]
    result = value.new_empty(batch, queries, heads * value.shape[3])
    tensors = value.contiguous(), locations.contiguous(), weights.contiguous(), result
    library.call("forward", list(shapes), _sizes(value, weights), tensors)
    return result


@torch.library.register_fake("focus_detr::msda_cpu")
def _(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(weights.shape[0], weights.shape[1], value.shape[2] * value.shape[3])


@_operator
def msda_cpu_backward(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights, from grad (B,Q,h*D)."""
    gradients = tuple(weights.new_empty(tensor.shape) for tensor in (value, locations, weights))
    inputs = grad.contiguous(), value.contiguous(), locations.contiguous(), weights.contiguous()
    library.call("backward", list(shapes), _sizes(value, weights), (*inputs, *gradients))
    return gradients[0].to(value.dtype), gradients[1], gradients[2]


@torch.library.register_fake("focus_detr::msda_cpu_backward")
def _(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    to_value, to_locations, to_weights = (t.new_empty(t.shape) for t in (value, locations, weights))
    return to_value, to_locations, to_weights


@_operator
def msda_cpu_projected(
    value: Tensor, shapes: Sequence[int], references: Tensor, projections: Tensor, points: int
) -> Tensor:
    """value (B,N,h,D), references (B,Q,L,2 or 4), projections (B,Q,3*h*L*P) -> (B,Q,h*D).

    Projections hold the offsets (h,L,P,2), then the logits of the weights (h,L,P). References and projections
    are float32, or float64 with a float64 value.
    """
    batch, queries, levels, numbers = references.shape
    heads, width = value.shape[2:]
    result = value.new_empty(batch, queries, heads * width)
    tensors = value.contiguous(), references.contiguous(), projections.contiguous(), result
    sizes = (*value.shape, queries, levels, points, numbers)
    library.call("projected", list(shapes), sizes, tensors)
    return result


@torch.library.register_fake("focus_detr::msda_cpu_projected")
def _(value: Tensor, shapes: Sequence[int], references: Tensor, projections: Tensor, points: int) -> Tensor:
    return value.new_empty(value.shape[0], references.shape[1], value.shape[2] * value.shape[3])


def _save(ctx: Any, inputs: tuple[Tensor, Sequence[int], Tensor, Tensor], output: Tensor) -> None:
    value, shapes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)
    ctx.shapes = shapes


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = ctx.saved_tensors
    to_value, to_locations, to_weights = msda_cpu_backward(grad, value, ctx.shapes, locations, weights)
    return to_value, None, to_locations, to_weights


torch.library.register_autograd("focus_detr::msda_cpu", _backward, setup_context=_save)


def forward(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The back end as the dispatcher calls it."""
    return msda_cpu(value, [size for shape in spatial_shapes for size in shape], locations, weights)

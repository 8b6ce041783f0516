"""Multi-scale deformable attention on the GPU, in Triton.

One program computes a block of queries of one head of one image. Values, and gradients of the result, are
read in their own dtype (float32, float16, bfloat16); positions, weights and sums are float32. Gradients of
positions and weights are each written by one program; those of the value are added atomically, so their last
bits may differ from run to run. Sizes of levels go to a kernel as numbers, not as a tensor: there is nothing
to copy to the GPU, to keep, or for a CUDA graph to hold on to, and a new size compiles nothing anew.

With TRITON_INTERPRET=1 in the environment before Triton is first imported, the same kernels serve the CPU.
"""

# Shapes: B images, N tokens of all levels, Q queries, h heads, D = C/h channels of a head, L levels, P
# points.

# mypy: disable-error-code="no-untyped-def"
# Triton reads the signatures of its kernels; what they hold is pointers and blocks, not Python types.

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from focus_detr.errors import FocusDetrError

# Queries and warps of a program, the best of 8 to 64 and 1 to 4 on an H200. A forward pass is bound by reads
# from the second cache, of which small programs keep more in flight; a backward pass by its atomic sums.
_FORWARD, _BACKWARD = (8, 1), (8, 2)
# What changes from image to image: the levels' heights and widths, 16 bits each, of levels 0 to 3 and 4 to 7
# (see `_packed`), and how many tokens and queries there are.
_SIZES = ("heights_0", "heights_4", "widths_0", "widths_4", "tokens", "queries")
_MOST_LEVELS, _LARGEST_SIDE = 8, 2**15 - 1


@triton.jit
def _size(from_0, from_4, level):
    """A level's number of those that `_packed` made."""
    packed = tl.where(level < 4, from_0, from_4).to(tl.int64)
    return ((packed >> (16 * (level % 4))) & 0xFFFF).to(tl.int32)


@triton.jit
def _locate(locations, read, height, width, valid):
    """Pixel up and left of each location, how far past it that lies, and whether any of it is inside."""
    x = tl.load(locations + read * 2, mask=valid, other=0.0) * width - 0.5
    y = tl.load(locations + read * 2 + 1, mask=valid, other=0.0) * height - 0.5
    near = valid & (x > -1) & (y > -1) & (x < width) & (y < height)
    x, y = tl.where(near, x, 0.0), tl.where(near, y, 0.0)
    left, top = tl.floor(x), tl.floor(y)
    return top.to(tl.int32), left.to(tl.int32), y - top, x - left, near


@triton.jit
def _corner(row, column, height, width, stride, channels, depth: tl.constexpr, near):
    """Offsets (block, D) of one pixel of each query from the level's first, and which may be read."""
    inside = near & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    offsets = ((row * width + column) * stride)[:, None] + channels[None, :]
    return offsets, inside[:, None] & (channels < depth)[None, :]


@triton.jit(do_not_specialize=_SIZES)
def _forward_kernel(
    value, locations, weights, result, heights_0: tl.int64, heights_4: tl.int64, widths_0: tl.int64,
    widths_4: tl.int64, tokens, queries, heads: tl.constexpr, depth: tl.constexpr, levels: tl.constexpr,
    points: tl.constexpr, block: tl.constexpr, depth_block: tl.constexpr,
):  # fmt: skip
    image, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    query = tl.program_id(0) * block + tl.arange(0, block)
    valid = query < queries
    place = (image * queries + query) * heads + head
    channels = tl.arange(0, depth_block)
    sums = tl.zeros((block, depth_block), dtype=tl.float32)
    start = 0
    for level in range(levels):
        height, width = _size(heights_0, heights_4, level), _size(widths_0, widths_4, level)
        rows = value + (image * tokens + start) * heads * depth + head * depth
        for point in range(points):
            read = (place * levels + level) * points + point
            weight = tl.load(weights + read, mask=valid, other=0.0)
            row, column, y_part, x_part, near = _locate(locations, read, height, width, valid)
            for down in tl.static_range(2):
                for across in tl.static_range(2):
                    y_weight = y_part if down else 1 - y_part
                    x_weight = x_part if across else 1 - x_part
                    offsets, mask = _corner(
                        row + down, column + across, height, width, heads * depth, channels, depth, near
                    )
                    corner = tl.load(rows + offsets, mask=mask, other=0.0).to(tl.float32)
                    sums += corner * (weight * y_weight * x_weight)[:, None]
        start += height * width
    out = result + place[:, None] * depth + channels[None, :]
    tl.store(out, sums.to(result.dtype.element_ty), mask=valid[:, None] & (channels < depth)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def _backward_kernel(
    grad, value, locations, weights, grad_value, grad_locations, grad_weights, heights_0: tl.int64,
    heights_4: tl.int64, widths_0: tl.int64, widths_4: tl.int64, tokens, queries, heads: tl.constexpr,
    depth: tl.constexpr, levels: tl.constexpr, points: tl.constexpr, block: tl.constexpr,
    depth_block: tl.constexpr,
):  # fmt: skip
    image, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    query = tl.program_id(0) * block + tl.arange(0, block)
    valid = query < queries
    place = (image * queries + query) * heads + head
    channels = tl.arange(0, depth_block)
    out = grad + place[:, None] * depth + channels[None, :]
    g = tl.load(out, mask=valid[:, None] & (channels < depth)[None, :], other=0.0).to(tl.float32)
    start = 0
    for level in range(levels):
        height, width = _size(heights_0, heights_4, level), _size(widths_0, widths_4, level)
        first = (image * tokens + start) * heads * depth + head * depth
        for point in range(points):
            read = (place * levels + level) * points + point
            weight = tl.load(weights + read, mask=valid, other=0.0)
            row, column, y_part, x_part, near = _locate(locations, read, height, width, valid)
            to_weight = tl.zeros((block,), dtype=tl.float32)
            to_x = tl.zeros((block,), dtype=tl.float32)
            to_y = tl.zeros((block,), dtype=tl.float32)
            for down in tl.static_range(2):
                for across in tl.static_range(2):
                    y_weight = y_part if down else 1 - y_part
                    x_weight = x_part if across else 1 - x_part
                    offsets, mask = _corner(
                        row + down, column + across, height, width, heads * depth, channels, depth, near
                    )
                    corner = tl.load(value + first + offsets, mask=mask, other=0.0).to(tl.float32)
                    dot = tl.sum(corner * g, axis=1)
                    to_weight += dot * y_weight * x_weight
                    to_x += dot * y_weight * (1.0 if across else -1.0)
                    to_y += dot * x_weight * (1.0 if down else -1.0)
                    share = g * (weight * y_weight * x_weight)[:, None]
                    tl.atomic_add(grad_value + first + offsets, share, mask=mask)
            tl.store(grad_weights + read, to_weight, mask=valid)
            tl.store(grad_locations + read * 2, to_x * weight * width, mask=valid)
            tl.store(grad_locations + read * 2 + 1, to_y * weight * height, mask=valid)
        start += height * width


def _packed(shapes: Sequence[int]) -> list[int]:
    # Numbers one by one would be compiled for, where they are 1 or multiples of 16.
    if len(shapes) > 2 * _MOST_LEVELS or max(shapes) > _LARGEST_SIDE:
        raise FocusDetrError(
            f"back end 'triton' takes {_MOST_LEVELS} levels of {_LARGEST_SIDE} a side at most, not "
            f"{list(zip(shapes[::2], shapes[1::2], strict=True))}; use_backend('reference') takes any"
        )
    numbers = []
    for sizes in (shapes[::2], shapes[1::2]):
        for first in (0, 4):
            numbers.append(sum(size << 16 * i for i, size in enumerate(sizes[first : first + 4])))
    return numbers


def _launch(
    kernel: Any,
    program: tuple[int, int],
    shapes: Sequence[int],
    value: Tensor,
    weights: Tensor,
    *arguments: Any,
) -> None:
    batch, tokens, heads, depth = value.shape
    _, queries, _, levels, points = weights.shape
    if value.numel() == 0 or weights.numel() == 0:
        return
    block, warps = program
    grid = (triton.cdiv(queries, block), batch * heads)
    with torch.cuda.device_of(value) if value.is_cuda else nullcontext():
        kernel[grid](
            *arguments, *_packed(shapes), tokens, queries, heads, depth, levels, points,
            block=block, depth_block=triton.next_power_of_2(depth), num_warps=warps,
        )  # fmt: skip


@torch.library.custom_op("focus_detr::msda_triton", mutates_args=())
def msda_triton(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """value (B,N,h,D), locations (B,Q,h,L,P,2), weights (B,Q,h,L,P) -> (B,Q,h*D)."""
    batch, queries, heads = weights.shape[:3]
    result = value.new_zeros(batch, queries, heads * value.shape[3])
    value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
    _launch(_forward_kernel, _FORWARD, shapes, value, weights, value, locations, weights, result)
    return result


@msda_triton.register_fake
def _(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(weights.shape[0], weights.shape[1], value.shape[2] * value.shape[3])


@torch.library.custom_op("focus_detr::msda_triton_backward", mutates_args=())
def msda_triton_backward(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights, from grad (B,Q,h*D)."""
    to_value, to_locations, to_weights = (weights.new_zeros(t.shape) for t in (value, locations, weights))
    inputs = grad.contiguous(), value.contiguous(), locations.contiguous(), weights.contiguous()
    _launch(_backward_kernel, _BACKWARD, shapes, value, weights, *inputs, to_value, to_locations, to_weights)
    return to_value.to(value.dtype), to_locations, to_weights


@msda_triton_backward.register_fake
def _(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    to_value, to_locations, to_weights = (t.new_empty(t.shape) for t in (value, locations, weights))
    return to_value, to_locations, to_weights


def _save(ctx: Any, inputs: tuple[Tensor, Sequence[int], Tensor, Tensor], output: Tensor) -> None:
    value, ctx.shapes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = ctx.saved_tensors
    to_value, to_locations, to_weights = msda_triton_backward(grad, value, ctx.shapes, locations, weights)
    return to_value, None, to_locations, to_weights


msda_triton.register_autograd(_backward, setup_context=_save)

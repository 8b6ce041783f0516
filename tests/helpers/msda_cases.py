"""Inputs for the operator's tests."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from focus_detr.ops.cpu import library

SHAPES = ((4, 5), (2, 3), (1, 1))


class Case(NamedTuple):
    """Arguments of multi_scale_deformable_attention, in order."""

    value: Tensor
    shapes: tuple[tuple[int, int], ...]
    locations: Tensor
    weights: Tensor


def case(
    batch: int = 2,
    queries: int = 5,
    heads: int = 2,
    width: int = 8,
    points: int = 2,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    """Random inputs that want gradients, with locations inside, outside and astride the borders.

    No location lies within 0.02 of a pixel centre, where its gradient jumps.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    tokens, levels = sum(height * width for height, width in shapes), len(shapes)
    sizes = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float64)
    # At least two pixels beyond each border, so that points wholly outside occur.
    pixels = (draw(batch, queries, heads, levels, points, 2) * (sizes[:, None] + 4)).floor() - 2
    pixels = pixels + 0.02 + 0.96 * draw(*pixels.shape)
    locations = (pixels + 0.5) / sizes[:, None]
    value = draw(batch, tokens, heads, width) - 0.5
    weights = draw(batch, queries, heads, levels, points)
    tensors = [tensor.to(dtype).requires_grad_() for tensor in (value, locations, weights)]
    return Case(tensors[0], shapes, tensors[1], tensors[2])


def results(function, args: Case) -> list[torch.Tensor]:
    out = function(*args)
    grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return [out, *torch.autograd.grad(out, (args.value, args.locations, args.weights), grad)]


try:
    library.load()
    NATIVE = True
except OSError:
    NATIVE = False

needs_native = pytest.mark.skipif(not NATIVE, reason="the CPU kernel is not built here")

"""Positions: the sine encoding of tokens and of boxes."""

# Shapes: B images, H W height and width of a level, N tokens of all levels, C channels.

from __future__ import annotations

import math

import torch
from torch import Tensor

from focus_detr.structures.geometry import COORDINATE_DTYPE, Geometry


def token_positions(geometry: Geometry, channels: int, temperature: float, offset: float) -> Tensor:
    """Sine encoding of every token within its own image (spec 1.2), (B,N,C): first y, then x.

    Args:
        temperature, offset: the released schedules use (10000, -0.5) or (20, 0).
    """
    per_level, dtype = [], geometry.precision
    for level, (height, width) in enumerate(geometry.shapes):
        size = geometry.sizes[:, level].to(dtype)  # (B,2)
        # Beyond the image the count of its pixels no longer grows, as with the original's cumulative mask.
        row = torch.arange(1, height + 1, device=size.device, dtype=dtype)
        column = torch.arange(1, width + 1, device=size.device, dtype=dtype)
        y = (row.minimum(size[:, :1]) + offset) / (size[:, :1] + 1e-6) * (2 * math.pi)  # (B,H)
        x = (column.minimum(size[:, 1:]) + offset) / (size[:, 1:] + 1e-6) * (2 * math.pi)  # (B,W)
        y = sine(y, channels // 2, temperature, dtype)[:, :, None].expand(-1, -1, width, -1)
        x = sine(x, channels // 2, temperature, dtype)[:, None].expand(-1, height, -1, -1)
        if geometry.rounded:
            # That mask has nothing to count in a column, or a row, that is all padding.
            zero = size.new_zeros(())
            nowhere = sine((zero + offset) / (zero + 1e-6) * (2 * math.pi), channels // 2, temperature, dtype)
            y = torch.where((column > size[:, 1:])[:, None, :, None], nowhere, y)
            x = torch.where((row > size[:, :1])[:, :, None, None], nowhere, x)
        per_level.append(torch.cat([y, x], -1).flatten(1, 2))
    return torch.cat(per_level, 1)


def box_positions(boxes_cxcywh: Tensor, channels: int) -> Tensor:
    """Sine encoding of boxes (..., 4) for the decoder's queries (spec 1.8), (..., 2C): y, x, w, h."""
    x, y, w, h = (boxes_cxcywh * (2 * math.pi)).unbind(-1)
    return torch.cat([sine(value, channels // 2, 10000.0) for value in (y, x, w, h)], -1)


def sine_of_boxes(boxes_cxcywh: Tensor, channels: int) -> Tensor:
    """Sine encoding of boxes (..., 4) as Deformable DETR's proposals have it, (..., 2C): x, y, w, h."""
    dtype = boxes_cxcywh.dtype if boxes_cxcywh.dtype.itemsize >= 4 else COORDINATE_DTYPE
    angles = boxes_cxcywh.to(dtype) * (2 * math.pi)
    return sine(angles, channels // 2, 10000.0, dtype).flatten(-2)


def sine(angles: Tensor, channels: int, temperature: float, dtype: torch.dtype = COORDINATE_DTYPE) -> Tensor:
    """Sines (even channels) and cosines (odd) of angles (...) over falling frequencies, (..., channels).

    Frequencies are made in ``dtype``.
    """
    exponents = 2 * torch.arange(channels // 2, device=angles.device, dtype=dtype) / channels
    scaled = angles[..., None] / temperature**exponents
    return torch.stack([scaled.sin(), scaled.cos()], -1).flatten(-2)

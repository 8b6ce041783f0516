"""Multi-scale deformable attention in plain torch: the definition every other back end is tested against.

Deformable DETR (Zhu et al., ICLR 2021), equation 3. A query looks at P points of each level; each point is
read bilinearly (zeros outside, `align_corners=False`: pixel = location * size - 0.5) and weighted.

Three forms of the same sum, for any device and floating dtype:
`embedding_bag`  one weighted row sum over all corners of all points; the fast one without native code.
`gather`         row gather, multiply, sum: nothing an export target could get wrong.
`grid_sample`    the formula as the literature writes it; the baseline of the benchmarks.

Shapes: value (B,N,h,C/h), locations (B,Q,h,L,P,2) as x, y in 0..1, weights (B,Q,h,L,P), result (B,Q,C).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = Sequence[tuple[int, int]]

# Queries worked on at once when no gradient is wanted: index arithmetic then stays in the cache of a core.
_QUERIES_AT_ONCE = 256


def bilinear_corners(locations: Tensor, weights: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The four pixels around each location of one level, and what each contributes.

    locations (..., P, 2), weights (..., P) -> flat pixel index int64 (..., P, 4), weight (..., P, 4).
    A corner outside the level gets weight 0 and an index that is safe to read.
    """
    x, y = locations[..., 0] * width - 0.5, locations[..., 1] * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    x_part, y_part = x - left, y - top
    # Clamped as floats first: a location far outside would overflow the integer.
    column, row = left.clamp(-2, width).long(), top.clamp(-2, height).long()
    columns = torch.stack((column, column + 1), dim=-1)
    rows = torch.stack((row, row + 1), dim=-1)
    x_weights = torch.stack((1 - x_part, x_part), dim=-1) * ((columns >= 0) & (columns < width))
    y_weights = torch.stack((1 - y_part, y_part), dim=-1) * ((rows >= 0) & (rows < height))
    y_weights = y_weights * weights[..., None]
    columns, rows = columns.clamp(0, width - 1), rows.clamp(0, height - 1) * width
    index = rows[..., :, None] + columns[..., None, :]
    weight = y_weights[..., :, None] * x_weights[..., None, :]
    return index.flatten(-2), weight.flatten(-2)


def _row_offsets(value: Tensor) -> Tensor:
    """Row of value.view(B*N*h, C/h) at which image b, head j starts: (B,1,h,1)."""
    batch, tokens, heads = value.shape[:3]
    images = torch.arange(batch, device=value.device) * (tokens * heads)
    return images[:, None, None, None] + torch.arange(heads, device=value.device)[:, None]


def _corner_rows(
    value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """For each level, rows of value.view(B*N*h, C/h) and their weights, both (B,Q,h,P*4)."""
    heads, offsets = value.shape[2], _row_offsets(value)
    result, start = [], 0
    for level, (height, width) in enumerate(spatial_shapes):
        index, weight = bilinear_corners(locations[:, :, :, level], weights[:, :, :, level], height, width)
        result.append(((index.flatten(-2) + start) * heads + offsets, weight.flatten(-2)))
        start += height * width
    return result


def embedding_bag(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """MSDA as one bag of 4*L*P weighted rows for each image, query and head."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not tracing and locations.numel() == 0:
        # embedding_bag refuses zero bags; the empty sum keeps the graph.
        return gather(value, spatial_shapes, locations, weights)
    wants_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (value, locations, weights))
    if not tracing and not wants_grad and locations.shape[1] > _QUERIES_AT_ONCE:
        value = value.contiguous()
        parts = zip(locations.split(_QUERIES_AT_ONCE, 1), weights.split(_QUERIES_AT_ONCE, 1), strict=True)
        return torch.cat([_one_bag(value, spatial_shapes, *part) for part in parts], dim=1)
    return _one_bag(value, spatial_shapes, locations, weights)


def _one_bag(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    batch, queries, heads = locations.shape[:3]
    corners = _corner_rows(value, spatial_shapes, locations, weights)
    rows = torch.cat([row for row, _ in corners], dim=-1)
    weight = torch.cat([weight for _, weight in corners], dim=-1)
    table = value.reshape(-1, value.shape[-1])
    bags = rows.flatten(0, 2), weight.flatten(0, 2)
    result = F.embedding_bag(bags[0], table, mode="sum", per_sample_weights=bags[1])
    return result.view(batch, queries, heads * value.shape[-1])


def gather(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """MSDA as row gather, multiply and sum, level by level: exports to any runtime."""
    batch, queries, heads = locations.shape[:3]
    width = value.shape[-1]
    table = value.reshape(-1, width)
    result = value.new_zeros(batch, queries, heads, width)
    for rows, weight in _corner_rows(value, spatial_shapes, locations, weights):
        picked = table.index_select(0, rows.flatten()).view(*rows.shape, width)
        result = result + (picked * weight[..., None]).sum(dim=-2)
    return result.flatten(-2)


def grid_sample(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """MSDA as one `grid_sample` per level: the usual pure-torch form."""
    batch, queries, heads, _, points = weights.shape
    width = value.shape[-1]
    if batch * heads * queries * points * width == 0:
        return gather(value, spatial_shapes, locations, weights)  # grid_sample refuses empty images
    result = value.new_zeros(batch * heads, width, queries)
    levels = value.split([height * width for height, width in spatial_shapes], dim=1)
    for level, ((rows, columns), tokens) in enumerate(zip(spatial_shapes, levels, strict=True)):
        image = tokens.permute(0, 2, 3, 1).reshape(batch * heads, width, rows, columns)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        weight = weights[:, :, :, level].transpose(1, 2).reshape(batch * heads, 1, queries, points)
        result = result + (sampled * weight).sum(dim=-1)
    return result.view(batch, heads * width, queries).transpose(1, 2).contiguous()

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
_QUERIES_AT_ONCE = 1024


def _padded_table(value: Tensor, spatial_shapes: Shapes) -> tuple[Tensor, list[int]]:
    """Value with zeros around each level, as one table (rows, C/h), and the first token of each level.

    Pixel (row, column) of a level of width W is its token (row + 1) * (W + 1) + column + 1: the zero left of
    a row also ends the row above, and one more ends the level. So every corner of a point that touches the
    level is in the table, and needs neither a mask nor a case of its own.
    """
    levels, starts, start = [], [], 0
    for (height, width), level in zip(
        spatial_shapes, value.split([height * width for height, width in spatial_shapes], dim=1), strict=True
    ):
        framed = F.pad(level.unflatten(1, (height, width)), (0, 0, 0, 0, 1, 0, 1, 1)).flatten(1, 2)
        levels += [framed, torch.zeros_like(framed[:, :1])]
        starts.append(start)
        start += (height + 2) * (width + 1) + 1
    return torch.cat(levels, dim=1).flatten(0, 2), starts


def _corners(
    value: Tensor, spatial_shapes: Shapes, starts: list[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows of the padded table around each location, int32, and their weights: both (B,Q,h,4*L*P)."""
    batch, _, heads = value.shape[:3]
    points = weights.shape[-1]

    def by_point(numbers: list[int], like: Tensor) -> Tensor:
        return like.new_tensor([number for number in numbers for _ in range(points)])

    heights = by_point([height for height, _ in spatial_shapes], locations)
    widths = by_point([width for _, width in spatial_shapes], locations)
    # Beyond the frame there is nothing but zeros: no value, no gradient.
    x = torch.minimum((locations[..., 0].flatten(-2) * widths - 0.5).clamp(min=-1), widths)
    y = torch.minimum((locations[..., 1].flatten(-2) * heights - 0.5).clamp(min=-1), heights)
    left = torch.minimum(x.detach().floor(), widths - 1)
    top = torch.minimum(y.detach().floor(), heights - 1)
    x_part, y_part = x - left, y - top

    columns, rows = left.nan_to_num(-1.0).int(), top.nan_to_num(-1.0).int()
    strides = by_point([width + 1 for _, width in spatial_shapes], rows)
    # The token of row 0, column 0 of each level, and the tokens of an image.
    origins = by_point(starts, rows) + strides + 1
    tokens = starts[-1] + (spatial_shapes[-1][0] + 2) * (spatial_shapes[-1][1] + 1) + 1
    images = torch.arange(batch, device=value.device, dtype=torch.int32) * (tokens * heads)
    offsets = images[:, None, None] + torch.arange(heads, device=value.device, dtype=torch.int32)
    index = (rows * strides + columns + origins) * heads + offsets[..., None]
    beside = torch.ones_like(strides)
    corners = torch.stack([strides - strides, beside, strides, strides + beside]) * heads

    flat_weights = weights.flatten(-2)
    lower = flat_weights * y_part
    upper = flat_weights - lower
    upper_right, lower_right = upper * x_part, lower * x_part
    weight = torch.cat([upper - upper_right, upper_right, lower - lower_right, lower_right], dim=-1)
    return (index[..., None, :] + corners).flatten(-2), weight


def embedding_bag(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """MSDA as one bag of 4*L*P weighted rows for each image, query and head."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not tracing and locations.numel() * value.numel() == 0:
        # embedding_bag refuses to have nothing to do; the empty sum keeps the graph.
        return gather(value, spatial_shapes, locations, weights)
    wants_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (value, locations, weights))
    at_once = locations.shape[1] if tracing or wants_grad else _QUERIES_AT_ONCE
    table, starts = _padded_table(value, spatial_shapes)
    results = []
    for part in zip(locations.split(at_once, 1), weights.split(at_once, 1), strict=True):
        rows, weight = _corners(value, spatial_shapes, starts, *part)
        bags = rows.flatten(0, 2), weight.flatten(0, 2)
        sums = F.embedding_bag(bags[0], table, mode="sum", per_sample_weights=bags[1])
        results.append(sums.view(*rows.shape[:2], value.shape[2] * value.shape[3]))
    return torch.cat(results, dim=1)


def gather(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """MSDA as row gather, multiply and sum: exports to any runtime."""
    table, starts = _padded_table(value, spatial_shapes)
    rows, weight = _corners(value, spatial_shapes, starts, locations, weights)
    picked = table.index_select(0, rows.flatten()).view(*rows.shape, value.shape[-1])
    return (picked * weight[..., None]).sum(dim=-2).flatten(-2)


def grid_sample(value: Tensor, spatial_shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """MSDA as one `grid_sample` per level: the usual pure-torch form."""
    batch, queries, heads, _, points = weights.shape
    width = value.shape[-1]
    if batch * heads * queries * points * width == 0:
        return gather(value, spatial_shapes, locations, weights)  # grid_sample refuses empty images
    # Queries last, as in what is sampled: runtimes are slow at products along a handful of points.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (L,Bh,P,Q,2)
    shares = weights.permute(3, 0, 2, 4, 1).flatten(1, 2)[:, :, None]  # (L,Bh,1,P,Q)
    result = value.new_zeros(batch * heads, width, queries)
    levels = value.split([height * width for height, width in spatial_shapes], dim=1)
    for (rows, columns), tokens, grid, share in zip(spatial_shapes, levels, grids, shares, strict=True):
        image = tokens.permute(0, 2, 3, 1).reshape(batch * heads, width, rows, columns)
        sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        result = result + (sampled * share).sum(dim=-2)
    return result.view(batch, heads * width, queries).transpose(1, 2).contiguous()

"""Where the decoder looks: its cross-attention laid on the token grid (Sparse DETR's DAM, spec 4.2)."""

# Shapes: B images, N tokens of all levels, Q queries, h heads, L levels, P points, S = Q*h*P samples of a
# level.

from __future__ import annotations

import torch
from torch import Tensor

from focus_detr.structures.geometry import Geometry, table


@torch.no_grad()
def decoder_attention_map(
    samples: list[tuple[Tensor, Tensor]],
    geometry: Geometry,
    queries: Tensor | None = None,
    shifted: bool = False,
) -> Tensor:
    """(B,N): attention each token gets from all queries, heads and layers of the decoder.

    Args:
        samples: locations (B,Q,h,L,P,2) on the canvas and weights (B,Q,h,L,P) of each layer.
        queries: (B,Q), those that count; None for all.
        shifted: lay it half a cell too far to the right and below, as released.
    """
    batch, device = len(samples[0][0]), samples[0][0].device
    exact = torch.promote_types(samples[0][1].dtype, torch.float32)
    received = torch.zeros(batch, geometry.num_tokens, dtype=exact, device=device)
    start = 0
    for level, (height, width) in enumerate(geometry.shapes):
        (size,) = table([(width, height)], device)  # (2,)
        for locations, weights in samples:
            cells = locations[:, :, :, level].flatten(1, 3) * size - (0.0 if shifted else 0.5)  # (B,S,2)
            weight = weights[:, :, :, level].to(exact)
            if queries is not None:
                weight = weight * queries[:, :, None, None].to(weight.dtype)
            weight = weight.flatten(1)
            low = cells.floor()
            for right in (0, 1):
                for below in (0, 1):
                    column, row = low[..., 0] + right, low[..., 1] + below
                    share = (1 - (cells[..., 0] - column).abs()) * (1 - (cells[..., 1] - row).abs())
                    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                    index = (start + row * width + column).long().masked_fill(~inside, 0)
                    received.scatter_add_(1, index, (share * weight).to(received.dtype) * inside)
        start += height * width
    return received

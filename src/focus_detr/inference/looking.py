"""Where the decoder's queries looked, in the picture."""

# Shapes: B images, T objects, Q queries, h heads, L levels, P points.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def places_looked_at(
    outputs: Any, index: int, queries: np.ndarray | Sequence[int], size: tuple[int, int]
) -> np.ndarray | None:
    """Places (T,hLP,3) that the last decoder layer sampled for queries (T,): x, y and weight, adding up to 1.

    x and y are pixels of the picture, and may lie outside it, where there is nothing to be seen.

    Args:
        outputs: what a model called with ``with_samples=True`` gives.
        index: which image of the batch.
        size: (height, width) of the picture.

    Returns None for models whose decoder attends to all of its memory, or that do not tell.
    """
    samples = getattr(outputs, "samples", None)
    if not samples:
        return None
    at, weights = (values[index][torch.as_tensor(queries, device=values.device)] for values in samples[-1])
    canvas = torch.tensor(outputs.spatial_shapes, device=at.device).flip(-1)  # (L,2) width and height
    own = canvas if outputs.level_sizes is None else outputs.level_sizes[index].flip(-1).to(at.device)
    at = at * (canvas / own).to(at.dtype)[:, None]  # (T,h,L,P,2) in fractions of the image
    pixels = at.double() * at.new_tensor(size[::-1]).double()
    shares = weights.double() / weights.shape[1]
    return torch.cat([pixels, shares[..., None]], -1).flatten(1, 3).cpu().numpy()

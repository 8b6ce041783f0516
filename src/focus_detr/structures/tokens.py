"""Tokens: what encoders work on."""

# Shapes: B images, N tokens of all levels, C channels, L levels.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import FineMap


@dataclass
class Tokens:
    """The tokens of a batch, of all levels, as backbone and neck leave them.

    Attributes:
        content: (B,N,C).
        positions: (B,N,C), an encoding of where each is; it joins contents where attention looks for them.
        geometry: where they are.
        fine_map: the backbone's finest map, where a head asks for it.
    """

    content: Tensor
    positions: Tensor
    geometry: Geometry
    fine_map: FineMap | None = None

    def references(self) -> Tensor:
        """(B,N,L,2): the place of each token on each level's canvas; at least float32."""
        dtype = self.content.dtype
        return self.geometry.references(dtype if dtype.itemsize >= 4 else torch.float32)

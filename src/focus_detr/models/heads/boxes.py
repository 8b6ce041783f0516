"""The box head: where a query's object is, relative to a reference."""

# Shapes: B images, Q queries, C channels.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.layers import Layers
from focus_detr.models.precision import FullMLP
from focus_detr.structures.boxes import inverse_sigmoid

_LARGEST_GROWTH = math.log(1000 / 16)  # as R-CNN has it: nothing overflows


class BoxHead(FullMLP):
    """(..., C) -> what is added to the logits of a reference (..., 4), in full precision."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, channels, 4)

    def start(self) -> None:
        """Boxes are their references at first."""
        last = self.last
        init.zeros_(last.weight)
        init.zeros_(last.bias)

    def start_small(self) -> None:
        """Small boxes at first, where there is no proposal to begin from."""
        init.copy_(self.last.bias, torch.tensor([0.0, 0.0, -2.0, -2.0]))

    @property
    def last(self) -> nn.Linear:
        """The layer that says how far."""
        return cast(nn.Linear, self.layers[-1])


def refine_boxes(delta: Tensor, reference: Tensor, eps: float = 1e-3) -> Tensor:
    """Boxes (B,Q,4): reference (B,Q,2) points or (B,Q,4) boxes_cxcywh moved by delta (B,Q,4), as logits.

    Args:
        eps: how near to 0 and 1 the logit of a reference is taken.
    """
    logit = inverse_sigmoid(reference, eps)
    if logit.shape[-1] == 2:
        logit = torch.cat([logit, torch.zeros_like(logit)], -1)
    return (delta + logit).sigmoid()


def move_boxes(delta: Tensor, reference: Tensor) -> Tensor:
    """Boxes (B,Q,4): reference (B,Q,4) boxes_cxcywh, its centre moved by delta (B,Q,4) in units of its sides,
    the sides multiplied by exponentials (R-CNN; LW-DETR section 3)."""
    centre, sides = reference.split(2, -1)
    shift, growth = delta.split(2, -1)
    return torch.cat([centre + shift * sides, sides * growth.clamp(max=_LARGEST_GROWTH).exp()], -1)


def locate(
    heads: Layers[BoxHead],
    states: Sequence[Tensor],
    references: Sequence[Tensor],
    refine: Callable[[Tensor, Tensor], Tensor] = refine_boxes,
) -> list[Tensor]:
    """boxes_cxcywh (B,Q,4) of the states (B,Q,C) after each layer, by a head each or by one for all.

    Args:
        references: (B,Q,2) points or (B,Q,4) boxes_cxcywh, what each layer's boxes are relative to.
        refine: how a head's answer moves a reference.
    """
    return [
        refine(heads[min(j, len(heads) - 1)](state), reference)
        for j, (state, reference) in enumerate(zip(states, references, strict=True))
    ]

"""The class head: how likely a query, or a token, is an object of each class."""

# Shapes: B images, Q queries, C channels, k classes.

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from transformers import initialization as init

from focus_detr.models.layers import Layers
from focus_detr.models.precision import FullLinear

RARE = -math.log(99)  # a logit of 1 %: every class is rare at first, and so is foreground


class ClassHead(FullLinear):
    """(..., C) -> logits (..., k), in full precision."""

    def start(self) -> None:
        """Every class is rare at first."""
        init.constant_(self.bias, RARE)


def classify(heads: Layers[ClassHead], states: Sequence[Tensor]) -> list[Tensor]:
    """Logits (B,Q,k) of the states (B,Q,C) after each layer, by a head each or by one for all."""
    return [heads[min(j, len(heads) - 1)](state) for j, state in enumerate(states)]

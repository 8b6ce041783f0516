"""Feed-forward networks as wide as a token's grade: all hidden units for the fine-grained, some for the rest.

Half of what an encoder layer computes is its feed-forward network, and all but a few hundred of its tokens
are there to be looked at. Nested widths as in slimmable networks and MatFormer: the smaller network is a part
of the larger one, and both are taught at once.
"""

# Shapes: B images, K kept tokens, F fine-grained, C channels.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr.models.attention import FeedForward
from focus_detr.structures.rows import add_rows, gather_rows


class NestedFeedForward(FeedForward):
    """A feed-forward network in the first hidden units of which lies a smaller one.

    All tokens pass the smaller one, fine-grained tokens the other units, too. Its parameters are those of
    `FeedForward`, so that a model trained without grades begins here as it is.

    Args:
        units: of the hidden layer, for all tokens.
    """

    def __init__(self, channels: int, hidden: int, dropout: float, units: int) -> None:
        super().__init__(channels, hidden, dropout)
        self.units = units

    def forward(self, tokens: Tensor, fine: Tensor | None = None) -> Tensor:
        """tokens (B,K,C), of which ``fine`` (B,F) are fine-grained, -1 for none; None for all of them."""
        if fine is None:
            return super().forward(tokens)
        one, two, units = self.linear1, self.linear2, self.units
        hidden = F.relu(F.linear(tokens, one.weight[:units], one.bias[:units]))
        found = F.linear(self.dropout(hidden), two.weight[:, :units], two.bias)
        rows = gather_rows(tokens, fine.clamp(min=0))
        hidden = F.relu(F.linear(rows, one.weight[units:], one.bias[units:]))
        return add_rows(found, fine, F.linear(self.dropout(hidden), two.weight[:, units:]))

    def split(self) -> SplitFeedForward:
        """The same as two networks, for inference: what runs and rewrites layers meets no slices."""
        return SplitFeedForward(self._part(slice(self.units)), self._part(slice(self.units, None)))

    def _part(self, units: slice) -> FeedForward:
        # The second part's bias is the first one's already.
        one, two = self.linear1, self.linear2
        weight, bias = one.weight[units], two.bias if units.start is None else torch.zeros_like(two.bias)
        part = FeedForward(weight.shape[1], len(weight), self.dropout.p).to(weight.device, weight.dtype)
        with torch.no_grad():
            part.linear1.weight.copy_(weight)
            part.linear1.bias.copy_(one.bias[units])
            part.linear2.weight.copy_(two.weight[:, units])
            part.linear2.bias.copy_(bias)
        return part.train(self.training).requires_grad_(one.weight.requires_grad)


class SplitFeedForward(nn.Module):
    """`NestedFeedForward` as a network of all tokens, ``narrow``, and one of the fine-grained, ``wide``."""

    def __init__(self, narrow: FeedForward, wide: FeedForward) -> None:
        super().__init__()
        self.narrow, self.wide = narrow, wide

    def forward(self, tokens: Tensor, fine: Tensor) -> Tensor:
        """tokens (B,K,C), of which ``fine`` (B,F) are fine-grained, -1 for none."""
        return add_rows(self.narrow(tokens), fine, self.wide(gather_rows(tokens, fine.clamp(min=0))))

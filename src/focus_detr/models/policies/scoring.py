"""Scoring: how likely each token is part of an object (foreground token selector, paper section 3.2)."""

# Shapes: B images, L levels, H W height and width, N tokens of all levels, K kept, C channels, k classes.

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.heads.classes import RARE
from focus_detr.models.precision import FullPrecision, in_full_precision
from focus_detr.structures.geometry import Geometry

MODULATIONS = ("tokens", "normalised", "scores")
"""What the score of a level can act on in the next finer one: its tokens, as released; its tokens once they
are normalised; its scores, which it is added to."""


class TokenScorer(FullPrecision):
    """A logit per token, from the token itself and the mean of its level (spec 1.4), in full precision."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, channels)
        self.score = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.GELU(),
            nn.Linear(channels // 2, channels // 4),
            nn.GELU(),
            nn.Linear(channels // 4, 1),
        )

    @in_full_precision
    def forward(self, tokens: Tensor, valid: Tensor | None, gain: Tensor | None = None) -> Tensor:
        """tokens (B,N,C), valid (B,N) tokens that count in the mean -> (B,N) logits.

        Args:
            gain: (B,N) factors of the normalised tokens.
        """
        normalised = self.norm(tokens)
        if gain is not None:
            normalised = normalised * gain[..., None]
        # One half of the channels speaks for the token, the other for its level, as the mean over it.
        local, shared = F.gelu(self.project(normalised)).chunk(2, -1)  # (B,N,C/2) each
        if valid is None:
            mean = shared.mean(1, keepdim=True)
        else:
            weight = valid[..., None].to(shared.dtype)  # (B,N,1)
            mean = (shared * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        # mean is (B,1,C/2). The first layer acts on each half by itself: the mean needs it once, not once a
        # token, and the two halves are never laid side by side.
        first, *rest = self.score
        assert isinstance(first, nn.Linear)
        weight_local, weight_mean = first.weight.chunk(2, -1)
        hidden = F.linear(local, weight_local, first.bias) + F.linear(mean, weight_mean)
        for layer in rest:
            hidden = layer(hidden)
        return hidden.squeeze(-1)


class ForegroundSelector(TokenScorer):
    """Scores every level with one scorer, from coarse to fine, each modulated by the level above (spec 1.4).

    s_L = score(Z_L);  s_l = score(Z_l * (1 + alpha_l * up(s_{l+1}))), or another of `MODULATIONS`.

    Args:
        top_down: False scores each level by itself.
        modulates: what the score of the level above acts on.
    """

    modulation: nn.Parameter | None  # alpha, the coarsest modulated level first

    def __init__(
        self, channels: int, num_levels: int, top_down: bool = True, modulates: str = "tokens"
    ) -> None:
        super().__init__(channels)
        self.modulation = nn.Parameter(torch.empty(num_levels - 1)) if top_down else None
        self.modulates = modulates

    def start(self) -> None:
        """Foreground is rare at first, and levels hardly modulate one another."""
        if self.modulation is not None:
            init.uniform_(self.modulation, -0.3, 0.3)
        init.constant_(cast(nn.Linear, self.score[-1]).bias, RARE)

    # The same scorer, asked for a whole pyramid: it takes another argument than for one level.
    @in_full_precision
    def forward(self, tokens: Tensor, geometry: Geometry, use_padding: bool = False) -> Tensor:  # type: ignore[override]
        """Foreground logits (B,N) of proposal features ``tokens`` (B,N,C).

        Args:
            use_padding: let padding count in the level's mean and in the upsampling, as released.
        """
        levels = geometry.split(tokens)
        masks: list[Tensor | None] = [None] * len(levels)
        if geometry.valid is not None and not use_padding:
            masks = list(geometry.split(geometry.valid))
        if self.modulation is None:
            alone = [TokenScorer.forward(self, z, m) for z, m in zip(levels, masks, strict=True)]
            return torch.cat(alone, 1)
        scores = [super().forward(levels[-1], masks[-1])]  # (B,H_l*W_l), the finest so far first
        for level in reversed(range(len(levels) - 1)):
            above = scores[0].unflatten(1, geometry.shapes[level + 1])  # (B,H,W)
            if masks[level] is None:
                up = F.interpolate(
                    above[:, None], geometry.shapes[level], mode="bilinear", align_corners=True
                )[:, 0]
            else:
                up = upsample_within(above, geometry, level)
            alpha = self.modulation[len(levels) - 2 - level]
            scores.insert(0, self._modulated(levels[level], masks[level], alpha * up.flatten(1)))
        return torch.cat(scores, 1)

    def _modulated(self, tokens: Tensor, valid: Tensor | None, above: Tensor) -> Tensor:
        # Logits (B,N) of a level, given alpha times those of the level above.
        if self.modulates == "scores":
            return super().forward(tokens, valid) + above
        if self.modulates == "normalised":
            return super().forward(tokens, valid, gain=1 + above)
        # As released: the norm that the scorer begins with takes out what of the factor is positive.
        return super().forward(tokens * (1 + above[..., None]), valid)


def upsample_within(scores: Tensor, geometry: Geometry, level: int) -> Tensor:
    """Bilinear upsampling (align_corners) of level+1 to level, inside each image: (B,H',W') -> (B,H,W)."""
    (height, width), (height_above, width_above) = geometry.shapes[level], geometry.shapes[level + 1]
    size, size_above = geometry.sizes[:, level], geometry.sizes[:, level + 1]
    rows = _interpolation(size[:, 0], size_above[:, 0], height, height_above, scores.dtype)
    columns = _interpolation(size[:, 1], size_above[:, 1], width, width_above, scores.dtype)
    return rows @ scores @ columns.transpose(1, 2)


def _interpolation(
    target: Tensor, source: Tensor, length: int, length_above: int, dtype: torch.dtype
) -> Tensor:
    # Row i of the (B,length,length_above) matrix: linear weights of target pixel i over the source's pixels.
    step = (source - 1).to(dtype) / (target - 1).clamp(min=1).to(dtype)  # (B,)
    centre = torch.arange(length, device=target.device, dtype=dtype) * step[:, None]
    centre = centre.minimum((source - 1).to(dtype)[:, None])
    distance = centre[:, :, None] - torch.arange(length_above, device=target.device, dtype=dtype)
    return (1 - distance.abs()).clamp(min=0)


def category_priority(class_logits: Tensor, foreground: Tensor, raw: bool) -> Tensor:
    """How fine-grained a token is (paper, multi-category score): class score times foreground score.

    Args:
        class_logits: (B,K,k); foreground: (B,K) logits.
        raw: multiply the logits as released; otherwise the probabilities.
    """
    category = class_logits.amax(-1)
    if raw:
        return category * foreground
    return category.sigmoid() * foreground.sigmoid()

"""Neck: the backbone's maps to levels of one width (spec 1.1 item 4)."""

# Shapes: B images, C channels, H W height and width; _i of a map of the backbone, _l of a level.

from __future__ import annotations

from torch import Tensor, nn

_GROUPS = 32


class Projection(nn.Module):
    """Convolution, then group normalisation if ``norm``: (B,C_in,H,W) -> (B,C,H',W')."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
        self.norm = nn.GroupNorm(min(_GROUPS, channels // 4), channels) if norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.conv(features))


class Neck(nn.Module):
    """Maps of the backbone (B,C_i,H_i,W_i), fine to coarse, to ``num_levels`` levels (B,C,H_l,W_l).

    The first extra level is a strided convolution of the backbone's last map; each further one, of the last.
    """

    def __init__(self, in_channels: list[int], channels: int, num_levels: int, norm: bool = True) -> None:
        super().__init__()
        self.num_backbone_levels = len(in_channels)
        lateral = [Projection(width, channels, 1, 1, norm) for width in in_channels]
        extra_inputs = [in_channels[-1]] + [channels] * num_levels
        extra = [
            Projection(extra_inputs[i], channels, 3, 2, norm) for i in range(num_levels - len(in_channels))
        ]
        self.projections = nn.ModuleList(lateral + extra)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        lateral = self.projections[: self.num_backbone_levels]
        levels = [project(feature) for project, feature in zip(lateral, features, strict=True)]
        source = features[-1]  # (B,C_i,H_i,W_i): as wide as the backbone made it, unlike every later source
        for project in self.projections[self.num_backbone_levels :]:
            levels.append(project(source))
            source = levels[-1]
        return levels

"""Fusion of an encoder's levels, top-down and bottom-up, before queries are made (Salience-DETR)."""

# Shapes: B images, C channels, H W height and width of a level's canvas, N tokens of all levels.

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr.losses.whole_step import several_processes, sum_of_processes
from focus_detr.models.layers import Layers
from focus_detr.structures.geometry import Geometry, flatten_levels

_BLOCKS = 3
_GROUPS = 4  # of a block's convolutions
_SQUEEZE = 16  # channels for each one that a gate squeezes them to

Inside = Tensor | None  # (B,1,H,W) bool, cells that are image; None where all are


class Fusion(nn.Module):
    """Maps of every level, each made of all of them: down from the coarsest, and up again."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        steps = range(levels - 1)  # step l joins level l and l + 1
        self.laterals = Layers(ConvNorm(channels, channels, 1) for _ in steps)
        self.top_down = Layers(Stage(channels) for _ in steps)
        self.downs = Layers(ConvNorm(channels, channels, 3, stride=2) for _ in steps)
        self.bottom_up = Layers(Stage(channels) for _ in steps)

    def forward(self, tokens: Tensor, geometry: Geometry, padded: bool = False) -> Tensor:
        """tokens (B,N,C) -> (B,N,C).

        Args:
            padded: padding passes for image, as released.
        """
        shapes = geometry.shapes
        maps = [
            part.transpose(1, 2).unflatten(-1, shape)
            for part, shape in zip(geometry.split(tokens), shapes, strict=True)
        ]
        inside: list[Inside] = [None] * len(maps)
        if geometry.valid is not None and not padded:
            parts = zip(geometry.split(geometry.valid), shapes, strict=True)
            inside = [part[:, None].unflatten(-1, shape) for part, shape in parts]
        for level in reversed(range(len(maps) - 1)):
            above = maps[level + 1] = self.laterals[level](maps[level + 1], inside[level + 1])
            if inside[level] is None:
                raised = F.interpolate(above, shapes[level], mode="nearest")
            else:
                raised = nearest_within(above, geometry, level)
            joined = torch.cat([raised, maps[level]], 1)
            maps[level] = self.top_down[level](joined, inside[level])
        for level in range(len(maps) - 1):
            lowered = self.downs[level](within(maps[level], inside[level]), inside[level + 1])
            joined = torch.cat([lowered, maps[level + 1]], 1)
            maps[level + 1] = self.bottom_up[level](joined, inside[level + 1])
        return flatten_levels(maps)


class Stage(nn.Module):
    """Two projections of the same maps (B,2C,H,W), one through a row of blocks, and their sum (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = ConvNorm(2 * channels, channels, 1)
        self.blocks = Layers(Block(channels) for _ in range(_BLOCKS))
        self.shortcut = ConvNorm(2 * channels, channels, 1)

    def forward(self, maps: Tensor, inside: Inside) -> Tensor:
        main = self.main(maps, inside)
        for block in self.blocks:
            main = block(main, inside)
        return main + self.shortcut(maps, inside)


class Block(nn.Module):
    """A 3x3 and a 1x1 convolution of groups, summed and gated: what it adds to maps (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = ConvNorm(channels, channels, 3, groups=_GROUPS, activation=None)
        self.narrow = ConvNorm(channels, channels, 1, groups=_GROUPS, activation=None)
        self.gate = Gate(channels)

    def forward(self, maps: Tensor, inside: Inside) -> Tensor:
        wide, narrow = self.wide(within(maps, inside), inside), self.narrow(maps, inside)
        return maps + self.gate(F.silu(wide + narrow), inside)


class Gate(nn.Module):
    """Channels weighed by what a pool of all cells says, in which each cell counts by its own score."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // _SQUEEZE)
        self.score = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Linear(channels, squeezed, bias=False)
        self.excite = nn.Linear(squeezed, channels, bias=False)

    def forward(self, maps: Tensor, inside: Inside) -> Tensor:
        scores = self.score(maps)  # (B,1,H,W)
        if inside is not None:
            scores = scores.masked_fill(~inside, torch.finfo(scores.dtype).min)
        weights = scores.flatten(2).softmax(-1)  # (B,1,HW)
        pooled = (maps.flatten(2) * weights).sum(-1)  # (B,C)
        return maps * self.excite(F.relu(self.squeeze(pooled))).sigmoid()[..., None, None]


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, activation."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[Tensor], Tensor] | None = F.silu,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = CellNorm(channels)
        self.activation = activation

    def forward(self, maps: Tensor, inside: Inside) -> Tensor:
        """maps (B,C',H,W), with zeros outside where the kernel reaches there; inside: of what comes out."""
        normed = self.norm(self.conv(maps), inside)
        return normed if self.activation is None else self.activation(normed)


class CellNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics, in training, are those of the cells that are image, in all
    processes that share the step."""

    def forward(self, maps: Tensor, inside: Inside = None) -> Tensor:
        plain = inside is None and maps[:, 0].numel() > 1 and not several_processes()
        if not self.training or plain:
            return super().forward(maps)
        # One cell alone has a variance of 0, where the base class would refuse it.
        exact = maps.to(torch.promote_types(maps.dtype, torch.float32))
        counted = torch.ones_like(exact[:, :1]) if inside is None else inside.to(exact.dtype)
        sums = torch.cat([(exact * counted).sum((0, 2, 3)), counted.sum()[None]])
        sums = sum_of_processes(sums)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        squares = ((exact - mean[:, None, None]).square() * counted).sum((0, 2, 3))
        variance = sum_of_processes(squares) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        assert self.weight is not None
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (exact * scale[:, None, None] + shift[:, None, None]).to(maps.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(now.to(running.dtype), self.momentum)


def within(maps: Tensor, inside: Inside) -> Tensor:
    """Maps (B,C,H,W) with zeros where they are not image, as beyond the edge of an image alone."""
    return maps if inside is None else maps * inside.to(maps.dtype)


def nearest_within(above: Tensor, geometry: Geometry, level: int) -> Tensor:
    """Nearest neighbours of level+1 for level, inside each image: (B,C,H',W') -> (B,C,H,W)."""
    height, width = geometry.shapes[level]
    size, size_above = geometry.sizes[:, level], geometry.sizes[:, level + 1]
    for axis, length in ((2, height), (3, width)):
        place = torch.arange(length, device=above.device)
        source = place * size_above[:, axis - 2, None] // size[:, axis - 2, None].clamp(min=1)  # (B,length)
        source = source.clamp(max=above.shape[axis] - 1)
        source = source[:, None, :, None] if axis == 2 else source[:, None, None]
        shape = list(above.shape)
        shape[axis] = length
        above = above.gather(axis, source.expand(shape))
    return above

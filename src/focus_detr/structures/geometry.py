"""Where tokens are: the shapes of the levels, and the part of each that is image rather than padding."""

# Shapes: B images, L levels, H W height and width, N tokens of all levels, C channels.

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Coordinates are made in float32 whatever the model's dtype, as in the original Focus-DETR and DINO.
COORDINATE_DTYPE = torch.float32


@dataclass
class Geometry:
    """The token grid of a batch.

    Attributes:
        shapes: (H, W) of each level's canvas, fine to coarse; Python ints, so that counts stay static.
        sizes: (B,L,2) int64, the height and width of the image's part of each canvas.
        valid: (B,N) bool, True where a token is image; None when no canvas has padding.
        rounded: ratios of image to canvas are rounded to float32, as in the original: locations that this
            moves over the edge of a pixel have other gradients. Independence of the batch needs exact ones.
            Padded tokens have the original's positions, too.
        precision: dtype that coordinates are made in.
        anchors: of the proposals, once they were made (see `Proposals.anchors`).
    """

    shapes: list[tuple[int, int]]
    sizes: Tensor
    valid: Tensor | None
    rounded: bool = False
    precision: torch.dtype = COORDINATE_DTYPE
    anchors: tuple[Tensor, Tensor] | None = None

    @classmethod
    def unpadded(cls, shapes: list[tuple[int, int]], batch: int, device: torch.device) -> Geometry:
        """The geometry of a batch without padding."""
        sizes = table(shapes, device)[None].expand(batch, -1, -1)
        return cls(shapes, sizes, None)

    @classmethod
    def padded(cls, shapes: list[tuple[int, int]], sizes: Tensor, rounded: bool = False) -> Geometry:
        """The geometry of images of ``sizes`` (B,L,2) at the top left of canvases of ``shapes``."""
        valid = []
        for level, (height, width) in enumerate(shapes):
            rows = torch.arange(height, device=sizes.device) < sizes[:, level, 0, None]  # (B,H)
            columns = torch.arange(width, device=sizes.device) < sizes[:, level, 1, None]  # (B,W)
            valid.append((rows[:, :, None] & columns[:, None, :]).flatten(1))
        return cls(shapes, sizes, torch.cat(valid, 1), rounded)

    def without_first(self) -> Geometry:
        """That of the levels after the finest."""
        valid = None if self.valid is None else self.valid[:, self.lengths[0] :]
        return replace(self, shapes=self.shapes[1:], sizes=self.sizes[:, 1:], valid=valid)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each level's canvas."""
        return [height * width for height, width in self.shapes]

    @property
    def num_tokens(self) -> int:
        """N: tokens of all levels."""
        return sum(self.lengths)

    def valid_counts(self) -> Tensor:
        """(B,) int64: the tokens of each image that are not padding."""
        return self.sizes.prod(-1).sum(-1)

    def valid_ratios(self, dtype: torch.dtype) -> Tensor:
        """(B,L,2): the image's share of each canvas, as (width, height)."""
        canvas = table(self.shapes, self.sizes.device)
        precision = self.precision if self.rounded else dtype
        return (self.sizes.to(precision) / canvas.to(precision)).flip(-1).to(dtype)

    def centres(self) -> Tensor:
        """(B,N,2): token centres (x, y) relative to their image, 0..1 inside it; in ``precision``."""
        return self._grid(self.sizes.flip(-1).to(self.precision))

    def references(self, dtype: torch.dtype) -> Tensor:
        """(B,N,L,2): every token's centre (x, y) on each level's canvas, 0..1 inside it."""
        if not self.rounded:
            return self.centres().to(dtype)[:, :, None] * self.valid_ratios(dtype)[:, None]
        ratios = self.valid_ratios(self.precision)
        canvas = table(self.shapes, ratios.device).flip(-1)
        return (self._grid(ratios * canvas)[:, :, None] * ratios[:, None]).to(dtype)

    def _grid(self, extents: Tensor) -> Tensor:
        # Pixel centres of every level, divided by its extent (B,L,2) as (width, height): (B,N,2).
        levels = []
        for level, (height, width) in enumerate(self.shapes):
            columns = torch.arange(width, device=extents.device, dtype=extents.dtype) + 0.5
            rows = torch.arange(height, device=extents.device, dtype=extents.dtype) + 0.5
            x = (columns / extents[:, level, :1])[:, None, :].expand(-1, height, -1)
            y = (rows / extents[:, level, 1:])[:, :, None].expand(-1, -1, width)
            levels.append(torch.stack([x, y], -1).flatten(1, 2))
        return torch.cat(levels, 1)

    def split(self, tokens: Tensor) -> list[Tensor]:
        """(B,N,...) into one (B,H_l*W_l,...) a level."""
        return list(tokens.split(self.lengths, 1))


def flatten_levels(maps: list[Tensor]) -> Tensor:
    """Maps (B,C,H_l,W_l) to tokens (B,N,C): fine to coarse, row by row."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)


def table(rows: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Pairs of whole numbers as a tensor (L,2) int64."""
    if not in_graph(device):
        # A copy from the host that nobody waits for.
        return torch.tensor(rows).to(device, non_blocking=True)
    # In a compiled graph that would be a constant on the CPU, which keeps it from being recorded; a recorded
    # one would copy from where the host had it once.
    return torch.stack([torch.full((), number, device=device) for row in rows for number in row]).view(-1, 2)


def in_graph(device: torch.device) -> bool:
    """Whether what is computed on ``device`` now is compiled, or recorded to be replayed later."""
    if torch.compiler.is_dynamo_compiling():
        return True
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()

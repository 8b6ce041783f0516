"""Tiles: how a very large picture is cut into parts that a model sees closely, at several scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.reduced import SizeRule

DEFAULT_OVERLAP = 0.2
LARGEST_OVERLAP = 0.75
SMALLEST_SIDE = 32
_AUTO_SIDE = 1024
"""Of a model that resizes nothing; all others say themselves what they see."""
_NO_SIDES = (False, False, False, False)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a picture, in its pixels, and the scale that a model sees it at.

    Attributes:
        box: left, top, right, bottom; whole pixels.
        inner: which of these four sides lie inside the picture, where objects may be cut.
        level: 0 for the closest look; each further one sees twice as much at half the scale.
        seen_size: (width, height) that the model is given it at.
    """

    box: tuple[int, int, int, int]
    inner: tuple[bool, bool, bool, bool]
    level: int
    seen_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the picture."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def cut_from(self, picture: Image.Image) -> Image.Image:
        """The tile of an upright RGB picture, at the size that the model is given it."""
        if self.seen_size == self.size:
            return picture.crop(self.box)
        return picture.resize(self.seen_size, Image.Resampling.BILINEAR, self.box)


@dataclass(frozen=True)
class Tiling:
    """Tiles of ``side`` pixels, each overlapping the next by the share ``overlap`` of it at least.

    An object at the edge of one tile lies whole in its neighbour, if it is no larger than the overlap. For
    larger ones, there are tiles of twice the side at half the scale, and so on up to the whole picture: with
    tiles of 1024 pixels and an overlap of 0.2, every object is seen whole, either as close as can be or at
    102 pixels (1024 * 0.2 / 2) of the closest tiles' scale or more.

    Attributes:
        side: in pixels, 32 or more. None for what the model sees at its own scale; then pictures are not cut
            at all that it sees at half of theirs or more.
        overlap: 0 to 0.75.
    """

    side: int | None
    overlap: float = DEFAULT_OVERLAP

    @classmethod
    def of(cls, tile: int | str | None, overlap: float | None = None) -> Tiling | None:
        """What callers may give: pixels, "auto", or None for no tiles.

        Raises:
            FocusDetrError: it is no side or no overlap of tiles.
        """
        if tile is None:
            if overlap is not None:
                raise FocusDetrError(f"overlap={overlap!r}: is of tiles; give tile=1024 or tile='auto', too")
            return None
        if tile != "auto" and (isinstance(tile, bool) or not isinstance(tile, int) or tile < SMALLEST_SIDE):
            raise FocusDetrError(
                f"tile={tile!r}: must be the side of a tile in pixels, {SMALLEST_SIDE} or more, or 'auto'"
            )
        share: Any = DEFAULT_OVERLAP if overlap is None else overlap
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= share <= LARGEST_OVERLAP:
            raise FocusDetrError(
                f"overlap={share!r}: must be a share of a tile's side, 0 to {LARGEST_OVERLAP}, as in 0.2"
            )
        return cls(None if isinstance(tile, str) else tile, float(share))

    def levels(self, size: tuple[int, int], rule: SizeRule | None) -> list[list[Tile]]:
        """The tiles of a picture of (width, height), the closest first and the whole picture last; those of
        one level are all of one size.

        ``rule``: what the model's image processor resizes to; None where it says nothing.
        """
        view = _View(self.side or (_AUTO_SIDE if rule is None else min(rule(_AUTO_SIDE, _AUTO_SIDE))), rule)
        shrunk = view.shrunk(size)
        if max(size) <= view.side or (self.side is None and shrunk <= 2):
            return [[Tile((0, 0, *size), _NO_SIDES, 0, size)]]
        closest = view.shrunk((view.side, view.side))
        levels = [self._level(size, view, 0)]
        while shrunk > 2 ** len(levels) * closest:
            levels.append(self._level(size, view, len(levels)))
        return [*levels, [Tile((0, 0, *size), _NO_SIDES, len(levels), view.of(size))]]

    def _level(self, size: tuple[int, int], view: _View, level: int) -> list[Tile]:
        side = view.side * 2**level
        width, height = min(side, size[0]), min(side, size[1])
        # The closest look is left to the image processor, as if the tile were a picture of its own.
        seen_size = view.of((width, height)) if level else (width, height)
        return [
            Tile(
                (left, top, left + width, top + height),
                (left > 0, top > 0, left + width < size[0], top + height < size[1]),
                level,
                seen_size,
            )
            for top in _starts(size[1], height, self.overlap)
            for left in _starts(size[0], width, self.overlap)
        ]


@dataclass(frozen=True)
class _View:
    """At what size a model is given a part of a picture. All sizes are (width, height)."""

    side: int
    rule: SizeRule | None

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """No larger than the part itself: enlarging is left to the image processor."""
        width, height = self._wanted(size)
        return min(width, size[0]), min(height, size[1])

    def shrunk(self, size: tuple[int, int]) -> float:
        """How many pixels of the part become one, along the side where they are most."""
        width, height = self._wanted(size)
        return max(size[0] / width, size[1] / height)

    def _wanted(self, size: tuple[int, int]) -> tuple[int, int]:
        width, height = size
        wanted = (width, height) if self.rule is None else self.rule(height, width)[::-1]
        if wanted != size:
            return wanted
        # Of a model that resizes nothing, no look is to cost more than that at a tile.
        scale = min(1.0, self.side / max(size))
        return max(1, round(width * scale)), max(1, round(height * scale))


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of ``side`` begin, spread evenly over ``length``."""
    step = max(1, int(side * (1 - overlap)))
    gaps = -(-(length - side) // step)
    return [number * (length - side) // gaps for number in range(gaps + 1)] if gaps else [0]

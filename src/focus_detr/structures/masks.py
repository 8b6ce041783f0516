"""The mask of an object: its polygons or its run lengths, and where in the picture they are now.

A bitmap of each object of each picture would fill the memory. What a source gives is small, and stays as it
is: resizing, flips, crops and mosaics change where it is, and one rasterisation at the end decodes it.
"""

# Shapes: T objects, H W height and width of the picture, h w those of a part of it, V vertices of a ring,
# M cells of a grid's side.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from focus_detr.errors import FocusDetrError

GRID = 64
"""Cells a side of the grid in its box that an object's mask is learned from."""
_SAMPLES = 2  # a side, of each cell of a grid
_MOST_PIXELS = 2**30  # of a bitmap, which is a byte for each while it is decoded
_FARTHEST = 1e6  # pixels; further out, the rasteriser's whole numbers would overflow

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Runs:
    """A bitmap as COCO's compressed run lengths, column by column."""

    size: tuple[int, int]
    """Height and width."""
    counts: bytes

    def decode(self) -> np.ndarray:
        """(H,W) bool."""
        from faster_coco_eval.core.mask import decode

        return decode({"size": list(self.size), "counts": self.counts}).astype(bool)


@dataclass(frozen=True, eq=False)
class Mask:
    """Which pixels of a picture an object covers.

    Attributes:
        shape: rings (V,2) of x and y, all of which it fills; or a bitmap.
        scale, shift: a point x of the shape is at scale * x + shift in the picture.
        window: left, top, right, bottom of what of the picture it can cover; None for all of it.
    """

    shape: tuple[np.ndarray, ...] | Runs
    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    window: Rectangle | None = None

    @classmethod
    def of_rings(cls, rings: Iterable[Any]) -> Mask:
        """From polygons [x1, y1, x2, y2, ...] of three points at least.

        Raises:
            FocusDetrError: they are no such numbers.
        """
        try:
            arrays = tuple(np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings)
        except (TypeError, ValueError) as error:
            raise FocusDetrError(f"polygons: x and y of each point are needed ({error})") from error
        if not arrays or any(len(ring) < 3 or not np.isfinite(ring).all() for ring in arrays):
            raise FocusDetrError("polygons: three points or more are needed, of finite numbers")
        return cls(tuple(ring.astype(np.float32) for ring in arrays))

    @classmethod
    def of_bitmap(
        cls, bitmap: np.ndarray, size: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)
    ) -> Mask:
        """From a bitmap (h,w), which lies at ``corner`` (left, top) of a picture of ``size`` (H, W)."""
        size = (bitmap.shape[0], bitmap.shape[1]) if size is None else size
        left, top = corner
        height, width = bitmap.shape
        # Along each column, with background at both ends: where it begins (odd) and ends (even).
        columns = np.zeros((width, height + 2), dtype=bool)
        columns[:, 1:-1] = bitmap.T
        column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
        changes = (left + column) * size[0] + top + row
        # A run that reaches the picture's bottom goes on at the top of the next column.
        begins, ends = changes[0::2], changes[1::2]
        joined = begins[1:] == ends[:-1]
        if len(changes):
            begins, ends = begins[np.r_[True, ~joined]], ends[np.r_[~joined, True]]
        counts = np.diff(np.r_[0, np.stack([begins, ends], 1).reshape(-1), size[0] * size[1]])
        return cls(_compressed(counts[: len(counts) - (counts[-1] == 0)].tolist(), size))

    @classmethod
    def of_coco(cls, segmentation: Any) -> Mask:
        """From what COCO calls a segmentation: polygons, or {"size": [H, W], "counts": runs}, compressed or
        not.

        Raises:
            FocusDetrError: it is none of them.
        """
        if not isinstance(segmentation, dict):
            rings = segmentation if isinstance(segmentation, Sequence) else [segmentation]
            nested = all(isinstance(ring, Sequence | np.ndarray) for ring in rings)
            return cls.of_rings(rings if nested else [rings])
        height, width = (int(side) for side in segmentation["size"])
        if not 0 < min(height, width) <= height * width <= _MOST_PIXELS:
            # Of no pixels, the decoder divides by zero, which nothing in Python can catch.
            raise FocusDetrError(f"runs: of {height}x{width} pixels")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            if any(not isinstance(count, int) or count < 0 for count in counts):
                raise FocusDetrError("runs: whole numbers of pixels, none below zero, are needed")
            if sum(counts) != height * width:
                raise FocusDetrError(f"runs: they are {sum(counts)} pixels, not {height}x{width}")
            return cls(_compressed(counts, (height, width)))
        runs = Runs((height, width), counts.encode() if isinstance(counts, str) else counts)
        try:
            runs.decode()
        except (ValueError, RuntimeError, TypeError) as error:  # the decoder's ways to refuse
            raise FocusDetrError(f"runs: cannot be decoded ({error})") from error
        return cls(runs)

    def transform(
        self,
        size: tuple[float, float],
        scale: tuple[float, float] = (1, 1),
        shift: tuple[float, float] = (0, 0),
    ) -> Mask:
        """The mask in a picture of ``size`` (width, height), where a point x has become scale * x + shift."""
        window = (0.0, 0.0, float(size[0]), float(size[1]))
        if self.window is not None:
            corners = np.asarray(self.window).reshape(2, 2) * scale + shift
            low = np.maximum(corners.min(axis=0), 0)
            high = np.minimum(corners.max(axis=0), size)
            window = (*low.tolist(), *high.tolist())
        return replace(
            self,
            scale=(self.scale[0] * scale[0], self.scale[1] * scale[1]),
            shift=(self.shift[0] * scale[0] + shift[0], self.shift[1] * scale[1] + shift[1]),
            window=window,
        )

    def decode(self, size: tuple[int, int]) -> np.ndarray:
        """(H,W) bool, of a picture of ``size`` (H, W)."""
        return self._drawn(size, (1.0, 1.0), (0.0, 0.0))

    @classmethod
    def union(cls, masks: Sequence[Mask], box_xyxy: np.ndarray) -> Mask:
        """What any of the masks covers, within a box (4,) of their picture."""
        left, top = (int(value) for value in np.floor(box_xyxy[:2]))
        right, bottom = (int(value) for value in np.ceil(box_xyxy[2:]))
        size = (max(1, bottom - top), max(1, right - left))
        parts = [mask._drawn(size, (1.0, 1.0), (-float(left), -float(top))) for mask in masks]
        whole = cls.of_bitmap(np.logical_or.reduce(parts))
        return replace(whole, shift=(float(left), float(top)))

    def grid(self, box_xyxy: np.ndarray, cells: int = GRID) -> np.ndarray:
        """(M,M) uint8: how much, of 255, of each cell of a grid over the box it covers."""
        left, top, right, bottom = (float(value) for value in box_xyxy)
        side = cells * _SAMPLES
        scale = (side / max(right - left, 1e-6), side / max(bottom - top, 1e-6))
        fine = self._drawn((side, side), scale, (-left * scale[0], -top * scale[1]))
        share = fine.reshape(cells, _SAMPLES, cells, _SAMPLES).mean(axis=(1, 3))
        return np.rint(255 * share).astype(np.uint8)

    def to_coco(self, size: tuple[int, int]) -> dict[str, Any]:
        """COCO's compressed run lengths, as JSON has them, of a picture of ``size`` (H, W)."""
        moved = self.scale != (1.0, 1.0) or self.shift != (0.0, 0.0) or self.window is not None
        runs = self.shape
        if moved or not isinstance(runs, Runs) or runs.size != tuple(size):
            runs = Mask.of_bitmap(self.decode(size)).shape
            assert isinstance(runs, Runs)
        return {"size": [int(side) for side in size], "counts": runs.counts.decode()}

    def outlines(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Rings (V,2) of x and y around its pixels, the largest first; holes are filled."""
        from contourpy import contour_generator

        # Pixels of nothing around it close the lines at the picture's edges.
        bitmap = np.pad(self.decode(size), 1).astype(np.float32)
        lines = cast(list[np.ndarray], contour_generator(z=bitmap).lines(0.5))
        rings = [line[:-1] - 0.5 for line in lines if len(line) > 3]
        areas = [_signed_area(ring) for ring in rings]
        # Lines run around what is covered one way, and around holes the other.
        order = sorted((index for index in range(len(rings)) if areas[index] > 0), key=lambda i: -areas[i])
        limit = np.asarray(size[::-1])
        return [rings[index].clip(0, limit) for index in order]

    def outline(self, size: tuple[int, int]) -> np.ndarray:
        """One ring (V,2) around its pixels: parts are joined by lines there and back, as YOLO has them; empty
        where it covers nothing."""
        rings = self.outlines(size)
        if not rings:
            return np.zeros((0, 2))
        way = np.concatenate([np.concatenate([ring, ring[:1]]) for ring in rings])
        back = [ring[:1] for ring in reversed(rings[:-1])]
        return rings[0] if len(rings) == 1 else np.concatenate([way, *back])

    def _drawn(
        self, size: tuple[int, int], scale: tuple[float, float], shift: tuple[float, float]
    ) -> np.ndarray:
        # (H,W) bool, where a point x of the picture is at scale * x + shift.
        height, width = size
        total = np.multiply(self.scale, scale)
        moved = np.multiply(self.shift, scale) + shift
        if isinstance(self.shape, Runs):
            bitmap = self._sampled(self.shape.decode(), size, total, moved)
        else:
            bitmap = _filled([ring * total + moved for ring in self.shape], size)
        if self.window is not None:
            low, high = (np.asarray(self.window[i : i + 2]) * scale + shift for i in (0, 2))
            x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
            bitmap &= ((y >= low[1]) & (y < high[1]))[:, None] & ((x >= low[0]) & (x < high[0]))[None]
        return bitmap

    @staticmethod
    def _sampled(
        source: np.ndarray, size: tuple[int, int], scale: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        # The pixel of a bitmap that the middle of each pixel of the picture lies in.
        places = []
        for axis, count in ((1, size[0]), (0, size[1])):
            at = np.floor((np.arange(count) + 0.5 - shift[axis]) / scale[axis]).astype(np.int64)
            places.append((at.clip(0, source.shape[1 - axis] - 1), (at >= 0) & (at < source.shape[1 - axis])))
        (rows, in_rows), (columns, in_columns) = places
        return source[rows][:, columns] & in_rows[:, None] & in_columns[None]


def as_array(masks: Iterable[Mask | None]) -> np.ndarray:
    """(T,) of objects, as `Instances` hold them; None for one whose mask nobody knows."""
    listed = list(masks)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def box_mask(box_xyxy: np.ndarray) -> Mask:
    """All of a box."""
    left, top, right, bottom = (float(value) for value in box_xyxy)
    return Mask.of_rings([[left, top, right, top, right, bottom, left, bottom]])


def _filled(rings: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    from faster_coco_eval.core.mask import decode, frPyObjects

    flat = [ring.clip(-_FARTHEST, _FARTHEST).reshape(-1).astype(float).tolist() for ring in rings]
    return decode(frPyObjects(flat, *size)).any(axis=2)


def _compressed(counts: list[int], size: tuple[int, int]) -> Runs:
    from faster_coco_eval.core.mask import frPyObjects

    found = frPyObjects({"size": [int(side) for side in size], "counts": counts}, *size)
    return Runs((int(size[0]), int(size[1])), bytes(found["counts"]))


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2

"""The objects of a record as writers need them: in pixels, wide enough for readers, with their outlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from focus_detr.data.records import Record
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, Runs

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Written:
    """An object in pixels of the upright picture."""

    box_xyxy: Box
    label: int
    crowd: bool
    area: float | None
    mask: Mask | None

    @property
    def says_area(self) -> bool:
        """Whether its area is more than its box or outline says."""
        left, top, right, bottom = self.box_xyxy
        of_box = (right - left) * (bottom - top)
        return self.area is not None and self.mask is None and abs(self.area - of_box) > 0.01 * of_box

    @property
    def rings(self) -> list[np.ndarray] | None:
        """Polygons (V,2) of x and y in pixels; None where there is no mask, or a bitmap."""
        if self.mask is None or isinstance(self.mask.shape, Runs):
            return None
        return [ring.astype(np.float64) * self.mask.scale + self.mask.shift for ring in self.mask.shape]


def objects_of(record: Record) -> Iterator[Written]:
    """Objects, then crowd regions."""
    for group, crowd in ((record.instances, False), (record.crowds, True)):
        yield from _each(group, crowd)


def _each(group: Instances, crowd: bool) -> Iterator[Written]:
    for row, box in enumerate(group.boxes_xyxy.tolist()):
        area = None if group.areas is None else float(group.areas[row])
        mask = None if group.masks is None else group.masks[row]
        yield Written(tuple(box), int(group.labels[row]), crowd, area, mask)


def widened(box: Box, size: tuple[int, int], least: float) -> Box:
    """A box whose sides are ``least`` pixels at least, as far as the picture of ``size`` (width, height) has
    room; smaller ones, readers take for none."""
    left, right = _side(box[0], box[2], size[0], least)
    top, bottom = _side(box[1], box[3], size[1], least)
    return left, top, right, bottom


def _side(low: float, high: float, limit: float, least: float) -> tuple[float, float]:
    if high - low >= least:
        return low, high
    low = min(max((low + high - least) / 2, 0.0), max(limit - least, 0.0))
    return low, min(low + least, float(limit))

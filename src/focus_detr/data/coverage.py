"""How much of the pictures is object: what a keep ratio is to be measured against."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from focus_detr.data.records import Record


def box_coverage(records: Iterable[Record]) -> float | None:
    """Share of a picture that lies in a box, mean over the pictures; crowd regions are left out.

    None where there are no pictures.
    """
    shares = [_covered(record) for record in records]
    return sum(shares) / len(shares) if shares else None


def _covered(record: Record) -> float:
    if not len(record.boxes):
        return 0.0
    scale = np.ones(4) if record.relative else np.asarray([*record.size, *record.size], dtype=np.float64)
    left, top, right, bottom = (record.boxes / scale).clip(0, 1).T  # (T,) each
    # The edges of all boxes make a grid of at most (2T-1, 2T-1) cells, each in a box or not.
    xs, ys = np.unique([left, right]), np.unique([top, bottom])
    columns = np.searchsorted(xs, left), np.searchsorted(xs, right)
    rows = np.searchsorted(ys, top), np.searchsorted(ys, bottom)
    change = np.zeros((len(ys), len(xs)), dtype=np.int32)
    for row, column, step in ((0, 0, 1), (0, 1, -1), (1, 0, -1), (1, 1, 1)):
        np.add.at(change, (rows[row], columns[column]), step)
    boxes_over = change.cumsum(0).cumsum(1)[:-1, :-1]  # (rows, columns) of cells
    return float(np.diff(ys) @ (boxes_over > 0) @ np.diff(xs))

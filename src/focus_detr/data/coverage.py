"""How much of the pictures is object: what a keep ratio is to be measured against."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from focus_detr.data.records import Record

_POINTS = 64


def box_coverage(records: Iterable[Record]) -> float | None:
    """Share of a picture that lies in a box, mean over the pictures; crowd regions are left out.

    Counted on 64x64 points a picture. None where there are no pictures.
    """
    shares = [_covered(record) for record in records]
    return sum(shares) / len(shares) if shares else None


def _covered(record: Record) -> float:
    if not len(record.boxes):
        return 0.0
    scale = np.ones(4) if record.relative else np.asarray([*record.size, *record.size], dtype=np.float64)
    left, top, right, bottom = (record.boxes / scale).T[..., None]  # (T,1) each
    points = (np.arange(_POINTS) + 0.5) / _POINTS
    across = (left <= points) & (points < right)  # (T,64)
    down = (top <= points) & (points < bottom)
    boxes_over = down.T.astype(np.float32) @ across.astype(np.float32)  # (64,64)
    return float((boxes_over > 0).mean())

"""The box of a COCO annotation: its `bbox`, or what encloses its polygons or its mask."""

from __future__ import annotations

from typing import Any

from focus_detr.data.formats.values import number

Box = tuple[float, float, float, float]

_LONGEST_SIDE = 30_000  # of a mask; its pixels are counted in 32 bits


def given_box(value: Any) -> Box | None:
    """xyxy of a `bbox` of four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = (number(item) for item in value)
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, x + width, y + height


def box_around(segmentation: Any) -> Box | None:
    """xyxy around polygons [[x1, y1, x2, y2, ...], ...] or a run-length encoded mask; None for others."""
    if isinstance(segmentation, dict):
        return _box_around_mask(segmentation)
    polygons = segmentation if isinstance(segmentation, list) else []
    rings = polygons if all(isinstance(ring, list) for ring in polygons) else [polygons]
    xs = [number(value) for ring in rings for value in ring[0::2]]
    ys = [number(value) for ring in rings for value in ring[1::2]]
    if len(xs) < 3 or len(xs) != len(ys):
        return None
    found_x, found_y = [x for x in xs if x is not None], [y for y in ys if y is not None]
    if len(found_x) < len(xs) or len(found_y) < len(ys):
        return None
    return min(found_x), min(found_y), max(found_x), max(found_y)


def _box_around_mask(mask: dict[str, Any]) -> Box | None:
    """xyxy around {"size": [height, width], "counts": runs as a list, or compressed as text}."""
    from faster_coco_eval.core.mask import frPyObjects, toBbox

    sides, counts = mask.get("size"), mask.get("counts")
    if not isinstance(sides, list) or not all(type(side) is int for side in sides):
        return None
    # The library's older versions trust what they are given: without pixels they end the process.
    if len(sides) != 2 or not all(0 < side <= _LONGEST_SIDE for side in sides):
        return None
    runs = isinstance(counts, list) and all(
        type(run) is int and 0 <= run <= _LONGEST_SIDE**2 for run in counts
    )
    if not runs and not isinstance(counts, str):
        return None
    try:
        found = toBbox(frPyObjects({"size": sides, "counts": counts}, *sides) if runs else mask)
    except (ValueError, RuntimeError, TypeError):  # the decoder's ways to refuse
        return None
    x, y, width, height = (float(value) for value in found)
    inside = x >= 0 and y >= 0 and x + width <= sides[1] and y + height <= sides[0]
    return (x, y, x + width, y + height) if inside and width > 0 and height > 0 else None

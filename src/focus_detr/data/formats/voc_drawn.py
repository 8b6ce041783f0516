"""VOC's pictures of objects (SegmentationObject): which pixels each covers, one number or color an object."""

# Shapes: H W height and width of the picture.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from focus_detr.data.formats.searching import folders_in
from focus_detr.data.formats.source import ProblemLog, RawBox
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import decoding
from focus_detr.structures.masks import Mask

_FOLDER = "segmentationobject"
_BANDS = np.array([1 << 16, 1 << 8, 1])
_VOID, _VOID_COLOR = 255, int(_BANDS @ (224, 224, 192))  # outlines, and what is no object of the classes
_LEAST_OVERLAP = 0.25  # of tiny objects, much is outline


def drawn_folder(xml_folder: Path) -> Path | None:
    """The folder of such pictures that belongs to a folder of xml files."""
    near = [*folders_in(xml_folder.parent), *folders_in(xml_folder)]
    return next((folder for folder in near if folder.name.lower() == _FOLDER), None)


def with_drawn_masks(
    boxes: Sequence[RawBox], file: Path, size: tuple[int, int] | None, log: ProblemLog
) -> list[RawBox]:
    """The boxes of a picture of ``size`` (width, height) with the masks that ``file`` shows, if it is there.

    What is drawn belongs to the object whose box it fills: that numbers follow the order of the xml file is
    true of VOC's own, and of few other tools.
    """
    if not boxes or not file.is_file():
        return list(boxes)
    try:
        numbers = _numbers(file)
        height, width = numbers.shape
        if size not in (None, (width, height)):
            raise FocusDetrError(f"is {width}x{height}, and its picture is not")
    except FocusDetrError as error:
        reason = str(error).removeprefix(f"{file}: ")
        log.add("bad-mask", "warning", file, reason, "Nothing is learned of the masks in it.")
        return list(boxes)
    values, parts = np.unique(numbers, return_inverse=True)
    parts = parts.reshape(numbers.shape) + (values[0] != 0)  # 0 is background, whether there is some or not
    places = find_objects(parts)
    result = list(boxes)
    for part, which in _pairs(places, boxes):
        if result[which].mask is None:
            rows, columns = places[part]
            bitmap = parts[rows, columns] == part + 1
            mask = Mask.of_bitmap(bitmap, (height, width), (columns.start, rows.start))
            result[which] = replace(result[which], mask=mask)
    return result


def _numbers(file: Path) -> np.ndarray:
    # (H,W): of each object another, 0 for none.
    with decoding(file) as image:
        colored = image.mode not in ("P", "L", "1") and not image.mode.startswith("I")
        values = np.asarray(image.convert("RGB")) @ _BANDS if colored else np.asarray(image).astype(np.int64)
        void = _VOID_COLOR if colored else _VOID if image.mode in ("P", "L") else None
    return values if void is None else np.where(values == void, 0, values)


def _pairs(places: list[tuple[slice, slice]], boxes: Sequence[RawBox]) -> list[tuple[int, int]]:
    # Which part is which object's, so that most of their boxes is shared.
    from faster_coco_eval.core.mask import iou

    drawn = [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in places]
    corners = np.array([box.xyxy for box in boxes], np.float64)
    said = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    if not drawn:
        return []
    overlap = np.asarray(iou(np.array(drawn, np.float64), said, [0] * len(boxes)))
    overlap = np.nan_to_num(overlap.reshape(len(drawn), len(boxes)))
    found = zip(*linear_sum_assignment(-overlap), strict=True)
    return [(int(part), int(box)) for part, box in found if overlap[part, box] >= _LEAST_OVERLAP]

"""The objects of a VOC xml file: boxes, or what some tools write in their place (rotated, polygons)."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from focus_detr.data.formats.source import Fault, ProblemLog, RawBox, Tally, UnknownClasses
from focus_detr.data.formats.values import is_fraction, number
from focus_detr.printable import in_line, listed
from focus_detr.structures.masks import Mask

_Box = tuple[float, float, float, float]

_ROTATED = Fault(
    "rotated-box",
    "warning",
    "{count} rotated [box is|boxes are] read as the upright [box around it|boxes around them]",
    "Nothing, if upright boxes are meant.",
)
_NO_BOX = Fault(
    "bad-box",
    "error",
    "{count} object[|s] without four numbers in <bndbox> [was|were] left out",
    "Correct them.",
)
_FRACTIONS = Fault(
    "fraction-box",
    "error",
    "{count} [box lies|boxes lie] within 0..1, as if given in fractions of the image, and [was|were] "
    "left out",
    "VOC boxes are pixels: multiply x by the image's width, y by its height.",
)
_SWAPPED = Fault(
    "swapped-corners",
    "warning",
    "{count} [box has|boxes have] [its|their] corners swapped and [was|were] read the right way round",
    "Write xmin below xmax and ymin below ymax.",
)


def object_name(node: Element) -> str:
    return (node.findtext("name") or "").strip()


def read_objects(
    root: Element, label_of: dict[str, int], file: Path, log: ProblemLog, masks: bool = False
) -> tuple[list[RawBox], int]:
    """The boxes of a file, with their polygons as `masks`, and how many of its objects could not be read."""
    boxes: list[RawBox] = []
    tally = Tally(file, log)
    unknown = UnknownClasses(file, log)
    # LabelMe keeps what was deleted, with a mark.
    nodes = [node for node in root.iter("object") if (node.findtext("deleted") or "").strip() != "1"]
    for position, node in enumerate(nodes):
        name = object_name(node)
        example = f"object {position + 1}"
        box = _upright(node, tally, example) or _around_rotated(node, tally, example) or _around_polygon(node)
        if name not in label_of:
            unknown.add(f"'{in_line(name, 80)}'", example)
        elif box is None:
            tally.add(_NO_BOX, f"{example} ({in_line(name, 80)})")
        elif is_fraction(*box):
            tally.add(_FRACTIONS, example)
        else:
            ring = _polygon(node) if masks else None
            mask = None if ring is None else Mask.of_rings([ring])
            boxes.append(RawBox(box, label_of[name], mask=mask))
    tally.report()
    unknown.report("objects of classes that are not known", f"Known classes: {listed(label_of)}.")
    return boxes, len(nodes) - len(boxes)


def _upright(node: Element, tally: Tally, example: str) -> _Box | None:
    sides = [number(node.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = sides
    if left is None or top is None or right is None or bottom is None:
        return None
    if right < left or bottom < top:
        tally.add(_SWAPPED, example)
        left, top, right, bottom = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
    # An empty box must stay empty, and tools that count from 0 must not be pushed outside the image.
    shift_x = 1 if left >= 1 and right > left else 0
    shift_y = 1 if top >= 1 and bottom > top else 0
    return left - shift_x, top - shift_y, right, bottom


def _around_rotated(node: Element, tally: Tally, example: str) -> _Box | None:
    """roLabelImg: centre, sides and an angle in radians."""
    values = [number(node.findtext(f"robndbox/{part}")) for part in ("cx", "cy", "w", "h", "angle")]
    cx, cy, width, height, angle = values
    if (
        cx is None
        or cy is None
        or width is None
        or height is None
        or angle is None
        or not math.isfinite(angle)
    ):
        return None
    tally.add(_ROTATED, example)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    half_x, half_y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return cx - half_x, cy - half_y, cx + half_x, cy + half_y


def _around_polygon(node: Element) -> _Box | None:
    ring = _polygon(node)
    return None if ring is None else (min(ring[0::2]), min(ring[1::2]), max(ring[0::2]), max(ring[1::2]))


def _polygon(node: Element) -> list[float] | None:
    """x and y in turns of <polygon> of <x1>, <y1>, <x2>, ... (Roboflow) or of <pt> with <x> and <y>
    (LabelMe)."""
    polygon = node.find("polygon")
    if polygon is None:
        return None
    coordinates = [
        part
        for part in polygon.iter()
        if part.tag[:1] in ("x", "y") and part.tag[1:].isdigit() or part.tag in ("x", "y")
    ]
    xs = [value for part in coordinates if part.tag[0] == "x" and (value := number(part.text)) is not None]
    ys = [value for part in coordinates if part.tag[0] == "y" and (value := number(part.text)) is not None]
    if len(xs) < 3 or len(xs) + len(ys) < len(coordinates) or len(xs) != len(ys):
        return None
    if not all(map(math.isfinite, (*xs, *ys))):
        return None
    return [value for point in zip(xs, ys, strict=True) for value in point]

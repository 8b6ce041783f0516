"""From what a source states to trusted records: files there, boxes finite, inside and not empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from focus_detr.data.formats.source import ProblemLog, RawBox, RawImage, Source
from focus_detr.data.headers import read_headers
from focus_detr.data.records import UNNUMBERED, Record, Severity
from focus_detr.errors import FocusDetrError
from focus_detr.images.archives import is_file
from focus_detr.images.reading import ImageHeader
from focus_detr.printable import counted, in_line, in_number
from focus_detr.structures.instances import Instances, clip_to
from focus_detr.structures.masks import as_array

ImageCheck = Literal["none", "sizes", "headers", "decode"]

# (slack, smallest): annotation tools round, so boxes reaching out by the slack are clipped without a word;
# a side below the smallest is no side, also after rounding to float32.
_PIXELS = (1.0, 1e-2)
_FRACTIONS = (2e-3, 1e-5)
_LARGEST = 1e9  # no picture is as large, and float32 holds it


def clean_records(
    source: Source, label_of: Mapping[int, int | None], check_images: ImageCheck, log: ProblemLog
) -> list[Record]:
    """Records of all usable images of `source`. `label_of` maps its categories; None leaves a class out.

    An image whose objects are all unusable is left out: as background it would teach the opposite.
    """
    present = [image for image in source.images if _is_there(image, log)]
    if source.images and not present:
        raise FocusDetrError(
            f"none of the {len(source.images)} images is there, {source.images[0].path} for one. "
            "Check that the images are where the annotations say."
        )
    records: list[Record] = []
    left_out: Counter[int] = Counter()
    for image, header in zip(present, _headers(present, check_images), strict=True):
        if isinstance(header, FocusDetrError):
            reason = str(header).removeprefix(f"{image.path}: ")
            log.add("unreadable-image", "error", image.path, reason, "The image was left out.")
            continue
        size = _trusted_size(image, header, log)
        asked_for = [box for box in image.boxes if label_of[box.category] is not None]
        left_out.update(box.category for box in image.boxes if label_of[box.category] is None)
        usable = _usable_boxes(image, asked_for, size, log)
        if not usable and len(asked_for) + image.lost > 0:
            log.add(
                "no-usable-object",
                "error",
                image.path,
                f"has {len(asked_for) + image.lost} objects, but none that can be used, and was left out",
                f"Correct {image.annotation_file or 'its annotation'}.",
            )
            continue
        records.append(_record(image, size, usable, label_of))
    for category, count in left_out.items():
        log.add(
            "unknown-class",
            "error",
            "classes",
            f"{counted(count, 'box', 'boxes')} of class {in_line(source.categories[category], 80)!r}, "
            f"not among the given classes, {'was' if count == 1 else 'were'} left out",
            "Add the class or ignore this.",
        )
    return records


def _is_there(image: RawImage, log: ProblemLog) -> bool:
    if is_file(image.path):
        return True
    log.add(
        "missing-image",
        "error",
        image.path,
        f"not there, though {image.named_by or image.annotation_file or 'the data set'} names it",
        "Add it or remove its entry.",
    )
    return False


def _headers(images: list[RawImage], check: ImageCheck) -> list[ImageHeader | FocusDetrError | None]:
    def wanted(image: RawImage) -> bool:
        return check in ("headers", "decode") or (check == "sizes" and image.declared_size is None)

    found = iter(read_headers([image.path for image in images if wanted(image)], check == "decode"))
    return [next(found) if wanted(image) else None for image in images]


def _trusted_size(image: RawImage, header: ImageHeader | None, log: ProblemLog) -> tuple[int, int] | None:
    declared = image.declared_size
    if header is None:
        return declared
    if declared not in (None, header.size):
        file = image.annotation_file or image.path
        if declared == header.stored_size:
            log.add(
                "exif-rotation",
                "warning",
                image.path,
                f"{file.name} gives its size before the rotation its EXIF asks for, "
                f"{declared[0]}x{declared[1]}; "
                "boxes are taken to refer to the upright image",
                "Look at a picture of its boxes; if they are off, save the image without EXIF orientation.",
            )
        else:
            log.add(
                "wrong-size",
                "warning",
                image.path,
                f"is {header.size[0]}x{header.size[1]}, not {declared[0]}x{declared[1]} as {file.name} "
                "says; boxes are taken as they stand",
                "Correct the size, or scale the boxes if the image was resized.",
            )
    return header.size


def _limits(image: RawImage, size: tuple[int, int] | None) -> tuple[float, float]:
    if image.relative:
        return 1.0, 1.0
    return (float(size[0]), float(size[1])) if size else (np.inf, np.inf)


def _usable_boxes(
    image: RawImage, boxes: list[RawBox], size: tuple[int, int] | None, log: ProblemLog
) -> list[RawBox]:
    """The boxes of an image that have an area inside it, each once; the others are reported."""
    faults: dict[str, list[RawBox]] = {}
    usable: list[RawBox] = []
    seen: set[tuple[object, ...]] = set()
    for box in boxes:
        left, top, right, bottom = box.xyxy
        if right < left or bottom < top:
            faults.setdefault("swapped", []).append(box)
            xyxy = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
            box = replace(box, xyxy=xyxy)
        identity = (box.category, box.crowd, box.xyxy)
        fault = "repeated" if identity in seen else _fault(box, image, size)
        seen.add(identity)
        if fault is not None:
            faults.setdefault(fault, []).append(box)
        if fault in (None, "clipped"):
            usable.append(box)
    _report_faults(image, faults, log)
    return usable


def _fault(box: RawBox, image: RawImage, size: tuple[int, int] | None) -> str | None:
    """What is wrong with a box: "not finite", "empty", "outside" (all unusable), "clipped" or nothing."""
    left, top, right, bottom = box.xyxy
    width, height = _limits(image, size)
    slack, smallest = _FRACTIONS if image.relative else _PIXELS
    if not all(abs(value) < _LARGEST for value in box.xyxy):
        return "not finite"
    if right - left < smallest or bottom - top < smallest:
        return "empty"
    if min(right, width) - max(left, 0) < smallest or min(bottom, height) - max(top, 0) < smallest:
        return "outside"
    if left < -slack or top < -slack or right > width + slack or bottom > height + slack:
        return "clipped"
    return None


def _record(
    image: RawImage, size: tuple[int, int] | None, boxes: list[RawBox], label_of: Mapping[int, int | None]
) -> Record:
    limits = _limits(image, size)

    def instances(group: list[RawBox]) -> Instances:
        boxes = np.array([box.xyxy for box in group], dtype=np.float64).reshape(-1, 4)
        areas = [box.area for box in group if box.area is not None]
        masks = [box.mask for box in group]
        return Instances(
            boxes_xyxy=clip_to(boxes, limits)[0].astype(np.float32),
            labels=np.array([label_of[box.category] for box in group], dtype=np.int64),
            areas=np.array(areas, dtype=np.float64) if len(areas) == len(group) > 0 else None,
            masks=as_array(masks) if any(mask is not None for mask in masks) else None,
        )

    return Record(
        path=image.path,
        image_id=UNNUMBERED if image.image_id is None else image.image_id,
        stated=instances([box for box in boxes if not box.crowd]),
        stated_crowds=instances([box for box in boxes if box.crowd]),
        relative=image.relative,
        known_size=size,
    )


_FAULTS: dict[str, tuple[str, Severity, str]] = {
    "not finite": ("bad-box", "error", "boxes with NaN, infinite or absurd numbers were left out"),
    "swapped": (
        "swapped-corners",
        "warning",
        "[box has its|boxes have their] corners swapped and [was|were] read the right way round",
    ),
    "repeated": (
        "duplicate-object",
        "warning",
        "object[|s] [is|are] there before, box and class alike, and [was|were] read once",
    ),
    "empty": ("empty-box", "error", "[box|boxes] without width or height [was|were] left out"),
    "outside": ("box-outside", "error", "[box|boxes] wholly outside the image [was|were] left out"),
    "clipped": ("box-clipped", "warning", "[box|boxes] reaching outside the image [was|were] clipped"),
}


def _report_faults(image: RawImage, faults: dict[str, list[RawBox]], log: ProblemLog) -> None:
    for fault, boxes in faults.items():
        kind, severity, what = _FAULTS[fault]
        first = ", ".join(f"{value:g}" for value in boxes[0].xyxy)
        log.add(
            kind,
            severity,
            image.annotation_file or image.path,
            f"{in_line(image.path.name, 120)}: "
            + in_number(f"{{count}} {what}", len(boxes))
            + f"; the first is [{first}] (left, top, right, bottom)",
            "Correct or remove them.",
        )

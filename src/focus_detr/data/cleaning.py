"""From what a source states to trusted records: files there, boxes finite, inside and not empty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from focus_detr.data.formats.source import ProblemLog, RawBox, RawImage, Source
from focus_detr.data.records import UNNUMBERED, Record, Severity
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import ImageHeader, image_header, read_image

ImageCheck = Literal["none", "headers", "decode"]

# (slack, smallest): annotation tools round, so boxes reaching out by the slack are clipped without a word;
# a side below the smallest is no side, also after rounding to float32.
_PIXELS = (1.0, 1e-2)
_FRACTIONS = (2e-3, 1e-5)


def clean_records(
    source: Source, label_of: Mapping[int, int | None], check_images: ImageCheck, log: ProblemLog
) -> list[Record]:
    """Records of all usable images of `source`. `label_of` maps its categories; None leaves a class out."""
    present = [image for image in source.images if _is_there(image, log)]
    if source.images and not present:
        raise FocusDetrError(
            f"none of the {len(source.images)} images is there, {source.images[0].path} for one. "
            "Check that the images are where the annotations say."
        )
    records: list[Record] = []
    left_out: dict[int, int] = {}
    for image, header in zip(present, _headers(present, check_images), strict=True):
        if isinstance(header, FocusDetrError):
            log.add("unreadable-image", "error", image.path, str(header), "The image was left out.")
            continue
        size = _trusted_size(image, header, log)
        faults: dict[str, list[RawBox]] = {}
        usable: list[RawBox] = []
        for box in image.boxes:
            if label_of[box.category] is None:
                left_out[box.category] = left_out.get(box.category, 0) + 1
                continue
            fault = _fault(box, image, size)
            if fault is not None:
                faults.setdefault(fault, []).append(box)
            if fault in (None, "clipped"):
                usable.append(box)
        records.append(_record(image, size, usable, label_of))
        _report_faults(image, faults, log)
    for category, count in left_out.items():
        log.add(
            "unknown-class",
            "error",
            "classes",
            f"{count} boxes of class {source.categories[category]!r}, not among the given classes, were "
            "left out",
            "Add the class or ignore this.",
        )
    return records


def clip_to(boxes: np.ndarray, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (T,4) xyxy clipped to (width, height), and which of them (T,) still have an area."""
    width, height = size
    clipped = np.clip(boxes, 0, np.asarray([width, height, width, height], dtype=boxes.dtype))
    kept = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    return clipped, kept


def _is_there(image: RawImage, log: ProblemLog) -> bool:
    if image.path.is_file():
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
    if check == "none":
        return [None] * len(images)

    def look(image: RawImage) -> ImageHeader | FocusDetrError:
        try:
            if check == "decode":
                read_image(image.path)
            return image_header(image.path)
        except FocusDetrError as error:
            return error

    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(look, images))


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


def _fault(box: RawBox, image: RawImage, size: tuple[int, int] | None) -> str | None:
    """What is wrong with a box: "not finite", "empty", "outside" (all unusable), "clipped" or nothing."""
    left, top, right, bottom = box.xyxy
    width, height = _limits(image, size)
    slack, smallest = _FRACTIONS if image.relative else _PIXELS
    if not all(math.isfinite(value) for value in box.xyxy):
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
    objects = [box for box in boxes if not box.crowd]
    crowds = [box for box in boxes if box.crowd]
    limits = _limits(image, size)

    def coordinates(group: list[RawBox]) -> np.ndarray:
        return clip_to(np.array([box.xyxy for box in group], dtype=np.float64).reshape(-1, 4), limits)[
            0
        ].astype(np.float32)

    def labels(group: list[RawBox]) -> np.ndarray:
        return np.array([label_of[box.category] for box in group], dtype=np.int64)

    def areas(group: list[RawBox]) -> np.ndarray | None:
        known = [box.area for box in group if box.area is not None]
        return np.array(known, dtype=np.float64) if len(known) == len(group) > 0 else None

    return Record(
        path=image.path,
        image_id=UNNUMBERED if image.image_id is None else image.image_id,
        boxes=coordinates(objects),
        labels=labels(objects),
        ignored=coordinates(crowds),
        ignored_labels=labels(crowds),
        areas=areas(objects),
        ignored_areas=areas(crowds),
        relative=image.relative,
        known_size=size,
    )


_FAULTS: dict[str, tuple[str, Severity, str]] = {
    "not finite": ("bad-box", "error", "boxes with NaN or infinite numbers were left out"),
    "empty": ("empty-box", "error", "boxes without width or height were left out"),
    "outside": ("box-outside", "error", "boxes wholly outside the image were left out"),
    "clipped": ("box-clipped", "warning", "boxes reaching outside the image were clipped"),
}


def _report_faults(image: RawImage, faults: dict[str, list[RawBox]], log: ProblemLog) -> None:
    for fault, boxes in faults.items():
        kind, severity, what = _FAULTS[fault]
        first = ", ".join(f"{value:g}" for value in boxes[0].xyxy)
        log.add(
            kind,
            severity,
            image.annotation_file or image.path,
            f"{image.path.name}: {len(boxes)} {what}; the first is [{first}] (left, top, right, bottom)",
            "Correct or remove them.",
        )

"""Which detections are objects at an IoU of 0.5: the ground of score thresholds and confusion matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from focus_detr.structures.instances import Instances


@dataclass(frozen=True)
class ImageBoxes:
    """The objects and crowd regions of one image, and what was found, best first, with scores; in float64."""

    objects: Instances
    crowds: Instances
    found: Instances

    @property
    def scores(self) -> np.ndarray:
        return cast(np.ndarray, self.found.scores)


def images_of(
    ground_truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> Iterator[ImageBoxes]:
    """Objects and detections image by image; a label is the position of its category as listed."""
    label_of = {category["id"]: label for label, category in enumerate(ground_truth["categories"])}
    objects: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    crowds: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for item in ground_truth["annotations"]:
        (crowds if item.get("iscrowd", 0) else objects)[item["image_id"]].append(item)
    for item in predictions:
        if item["category_id"] in label_of:
            found[item["image_id"]].append(item)
    for image in ground_truth["images"]:
        best = sorted(found[image["id"]], key=lambda item: -item["score"])
        yield ImageBoxes(
            objects=_instances(objects[image["id"]], label_of),
            crowds=_instances(crowds[image["id"]], label_of),
            found=replace(
                _instances(best, label_of), scores=np.array([item["score"] for item in best], np.float64)
            ),
        )


def _instances(items: Sequence[Mapping[str, Any]], label_of: Mapping[int, int]) -> Instances:
    boxes = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(boxes, np.array([label_of[item["category_id"]] for item in items], dtype=np.int64))


def overlaps(first: np.ndarray, second: np.ndarray, crowd: bool = False) -> np.ndarray:
    """IoU (S,T) of boxes_xyxy (S,4) and (T,4); with `crowd`, the share of the first inside the second."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(opposite - corner, 0, None), axis=-1)
    areas = np.prod(first[:, 2:] - first[:, :2], axis=-1)[:, None]
    union = areas if crowd else areas + np.prod(second[:, 2:] - second[:, :2], axis=-1)[None] - common
    return common / np.maximum(union, 1e-12)


def true_positives(image: ImageBoxes, iou: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are objects of their class, and which count at all: two bool arrays (T,).

    Of those that are none (see `partners`), what lies inside a crowd region of its class does not count.
    """
    correct = partners(image, iou) >= 0
    in_crowd = overlaps(image.found.boxes_xyxy, image.crowds.boxes_xyxy, crowd=True) >= iou
    in_crowd &= image.found.labels[:, None] == image.crowds.labels[None]
    return correct, correct | ~in_crowd.any(axis=1)


def partners(image: ImageBoxes, iou: float = 0.5) -> np.ndarray:
    """(T,) the object that each detection is, -1 for those that are none.

    As COCO: best score first, each takes the free object of its class it overlaps most, if by `iou` or more.
    """
    found = np.full(len(image.found), -1)
    overlap = overlaps(image.found.boxes_xyxy, image.objects.boxes_xyxy)
    free = np.ones(len(image.objects), dtype=bool)
    for index, label in enumerate(image.found.labels):
        candidates = np.where(free & (image.objects.labels == label), overlap[index], -1.0)
        if candidates.size and candidates.max() >= iou:
            found[index] = candidates.argmax()
            free[found[index]] = False
    return found


def pairs(image: ImageBoxes, threshold: float, iou: float = 0.5) -> Iterator[tuple[int | None, int | None]]:
    """(true label, found label) of objects and detections from `threshold` on; None: no partner.

    Partners are taken one to one where boxes overlap by `iou` or more whatever their classes: first those of
    one class, then those that overlap most, so that a right detection is never called a confusion.
    """
    found, objects = image.found[image.scores >= threshold], image.objects
    overlap = overlaps(found.boxes_xyxy, objects.boxes_xyxy)
    same = found.labels[:, None] == objects.labels[None]
    rows, columns = np.nonzero(overlap >= iou)
    order = np.lexsort((-overlap[rows, columns], ~same[rows, columns]))
    used_rows, used_columns = set(), set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            yield int(objects.labels[column]), int(found.labels[row])
    in_crowd = overlaps(found.boxes_xyxy, image.crowds.boxes_xyxy, crowd=True).max(axis=1, initial=0.0)
    for row in set(range(len(found))) - used_rows:
        if in_crowd[row] < iou:
            yield None, int(found.labels[row])
    for column in set(range(len(objects))) - used_columns:
        yield int(objects.labels[column]), None

"""Which detections are objects at an IoU of 0.5: the ground of score thresholds and confusion matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ImageBoxes:
    """The objects and the detections of one image, best detection first. Boxes are (T,4) xyxy pixels."""

    boxes: np.ndarray
    labels: np.ndarray
    crowds: np.ndarray
    crowd_labels: np.ndarray
    found: np.ndarray
    found_labels: np.ndarray
    scores: np.ndarray


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
            *_boxes_and_labels(objects[image["id"]], label_of),
            *_boxes_and_labels(crowds[image["id"]], label_of),
            *_boxes_and_labels(best, label_of),
            np.array([item["score"] for item in best], dtype=np.float64),
        )


def _boxes_and_labels(
    items: Sequence[Mapping[str, Any]], label_of: Mapping[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, np.array([label_of[item["category_id"]] for item in items], dtype=np.int64)


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

    As COCO: best score first, each takes the free object it overlaps most, if by `iou` or more. What is left
    over inside a crowd region of its class does not count.
    """
    correct = np.zeros(len(image.scores), dtype=bool)
    counts = np.ones(len(image.scores), dtype=bool)
    overlap = overlaps(image.found, image.boxes)
    in_crowd = overlaps(image.found, image.crowds, crowd=True)
    free = np.ones(len(image.boxes), dtype=bool)
    for index, label in enumerate(image.found_labels):
        candidates = np.where(free & (image.labels == label), overlap[index], -1.0)
        if candidates.size and candidates.max() >= iou:
            free[candidates.argmax()] = False
            correct[index] = True
        elif (in_crowd[index][image.crowd_labels == label] >= iou).any():
            counts[index] = False
    return correct, counts


def pairs(image: ImageBoxes, threshold: float, iou: float = 0.5) -> Iterator[tuple[int | None, int | None]]:
    """(true label, found label) of objects and detections from `threshold` on; None: no partner.

    Partners are taken one to one where boxes overlap by `iou` or more whatever their classes: first those of
    one class, then those that overlap most, so that a right detection is never called a confusion.
    """
    kept = np.flatnonzero(image.scores >= threshold)
    overlap = overlaps(image.found[kept], image.boxes)
    same = image.found_labels[kept][:, None] == image.labels[None]
    rows, columns = np.nonzero(overlap >= iou)
    order = np.lexsort((-overlap[rows, columns], ~same[rows, columns]))
    used_rows, used_columns = set(), set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            yield int(image.labels[column]), int(image.found_labels[kept[row]])
    in_crowd = overlaps(image.found[kept], image.crowds, crowd=True).max(axis=1, initial=0.0)
    for row in set(range(len(kept))) - used_rows:
        if in_crowd[row] < iou:
            yield None, int(image.found_labels[kept[row]])
    for column in set(range(len(image.boxes))) - used_columns:
        yield int(image.labels[column]), None

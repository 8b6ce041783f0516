"""Average precision of pictures drawn with repetition: COCO's own, of thousands of draws in seconds.

Which detection takes which object is settled picture by picture, and so once. A draw then only says how
often each picture counts: precision and recall are cumulative sums of these weights along the detections of a
class, best score first. Copies of a detection count as one of that weight: within them precision only rises
(they are right) or is never looked at (they are wrong).
"""

# Shapes: P pictures, R draws, D detections of a class, T objects of a class in a picture, S sizes, I IoUs,
# M detections of a class that overlap an object.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from focus_detr.evaluation.coco import IOU, Predictions, coco_evaluation, without_maskless

# As COCO has them: bounds belong to both neighbours.
AREAS = {"": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}
MEASURES = ("AP", "AP50", "AP75", *(f"AP{size}" for size in AREAS if size))
_DETECTIONS = 100
_RECALLS = np.linspace(0, 1, 101)
_RIGHT, _WRONG, _IGNORED = 1, 0, -1
# Numbers of a table that are worked on at once: what fits a processor's cache.
_AT_ONCE = 500_000


@dataclass
class _Class:
    """What was found of one class, best score first.

    Attributes:
        picture: (D,) where.
        verdicts: (S,I,D) right, wrong, or ignored.
        objects: (S,P) those to find.
    """

    picture: np.ndarray
    verdicts: np.ndarray
    objects: np.ndarray


class PrecisionOfDraws:
    """Average precision of one set of predictions, for any weights of the pictures.

    Args:
        ground_truth: a COCO json dictionary.
        predictions: COCO results; the 100 best of each picture and class count, as for COCO.
        masks: compare masks instead of boxes (see `coco_metrics`).
    """

    def __init__(
        self, ground_truth: Mapping[str, Any], predictions: Predictions, masks: bool = False
    ) -> None:
        self.pictures = sorted(image["id"] for image in ground_truth["images"])
        truth = without_maskless(ground_truth) if masks else ground_truth
        self._classes = _judge(truth, predictions, self.pictures, masks)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each of `MEASURES` (R,), 0..1; NaN where a draw has no object of the size.

        Args:
            weights: (P,R) how often each picture counts, in the order of ``pictures``.

        They equal COCO's of a data set with so many copies of each picture. What is left to chance there, the
        order of two detections of one picture and class with one score, is the same for all copies here.
        """
        draws = weights.shape[1]
        total = np.zeros((len(AREAS), len(IOU), draws))
        counted = np.zeros((len(AREAS), draws))
        for each in self._classes:
            at_once = max(1, _AT_ONCE // (1 + len(each.picture)))
            for start in range(0, draws, at_once):
                part = slice(start, start + at_once)
                drawn = np.ascontiguousarray(weights[:, part], dtype=np.float64)
                for size in range(len(AREAS)):
                    objects = each.objects[size] @ drawn  # (R,)
                    if objects.any():
                        counted[size, part] += objects > 0
                        total[size, :, part] += _precisions(each, size, drawn, objects)
        with np.errstate(invalid="ignore"):
            means = total / counted[:, None]  # (S,I,R), over the classes that a draw has
        found = {f"AP{name}": means[size].mean(0) for size, name in enumerate(AREAS)}
        found["AP50"], found["AP75"] = means[0, 0], means[0, 5]
        return {name: found[name] for name in MEASURES}


def _precisions(each: _Class, size: int, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    # (I,R): average precision of one class and size at each IoU; 0 where a draw has no object.
    verdicts = each.verdicts[size]  # (I,D)
    # Most detections overlap nothing and are wrong at every IoU: they are summed up once, up to each of the
    # others.
    plain = (verdicts == _WRONG).all(0)
    looked_at = np.flatnonzero(~plain & (verdicts != _IGNORED).any(0))  # (M,)
    segment = np.searchsorted(looked_at, np.flatnonzero(plain))
    shape = (len(looked_at) + 1, len(weights))
    ones = np.ones(len(segment))
    wrong = (csr_array((ones, (segment, each.picture[plain])), shape=shape) @ weights)[:-1].cumsum(0)
    drawn = weights[each.picture[looked_at]]  # (M,R)
    found = np.zeros((len(IOU), weights.shape[1]))
    for at, verdict in enumerate(verdicts[:, looked_at]):
        right = np.flatnonzero(verdict == _RIGHT)
        if not len(right):
            continue
        verdict = verdict[: right[-1] + 1]
        hits = drawn[right].cumsum(0)
        counted = (drawn[: len(verdict)] * (verdict != _IGNORED)[:, None]).cumsum(0)[right] + wrong[right]
        precision = hits / np.maximum(counted, 1)
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        reached = _recalls_reached(hits, objects)
        reached[1:] -= reached[:-1].copy()
        found[at] = (best_from_here * reached).sum(0) / len(_RECALLS)
    return found * (objects > 0)


def _recalls_reached(hits: np.ndarray, objects: np.ndarray) -> np.ndarray:
    # How many of the 101 recalls are at most hits / objects, by COCO's comparison of rounded numbers.
    recall = hits / np.maximum(objects, 1)
    whole = np.minimum(hits * 100 // np.maximum(objects, 1), 100).astype(np.int64)
    return whole + 1 - (_RECALLS[whole] > recall)


def _judge(
    ground_truth: Mapping[str, Any], predictions: Predictions, pictures: Sequence[int], masks: bool
) -> list[_Class]:
    evaluation = coco_evaluation(ground_truth, predictions, (_DETECTIONS,), masks=masks)
    objects = _by_place(evaluation.cocoGt.dataset["annotations"])
    found = _by_place(evaluation.cocoDt.dataset["annotations"])
    classes = []
    for category in sorted(item["id"] for item in ground_truth["categories"]):
        counts = np.zeros((len(AREAS), len(pictures)))
        best: list[Mapping[str, Any]] = []
        places: list[int] = []
        matching = []
        for row, picture in enumerate(pictures):
            truth = objects[picture, category]
            here = sorted(found[picture, category], key=lambda item: -item["score"])[:_DETECTIONS]
            if truth:
                ignored = _ignored(truth)
                counts[:, row] = (~ignored).sum(1)
                if here:
                    overlaps = np.asarray(evaluation.ious[picture, category]).reshape(len(here), len(truth))
                    matching.append((slice(len(best), len(best) + len(here)), overlaps, truth, ignored))
            best += here
            places += [row] * len(here)
        areas = np.array([item["area"] for item in best], np.float64)
        verdicts = np.where(_outside(areas), _IGNORED, _WRONG).astype(np.int8)[:, None].repeat(len(IOU), 1)
        for where, overlaps, truth, ignored in matching:
            _match(verdicts[..., where], overlaps, truth, ignored)
        order = np.argsort([-item["score"] for item in best], kind="stable")
        classes.append(_Class(np.array(places, np.int64)[order], verdicts[..., order], counts))
    return classes


def _by_place(items: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], list[Mapping[str, Any]]]:
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        groups[item["image_id"], item["category_id"]].append(item)
    return groups


def _outside(areas: np.ndarray) -> np.ndarray:
    # (S, ...) of areas (...): which are not of a size.
    return np.stack([(areas < low) | (areas > high) for low, high in AREAS.values()])


def _ignored(truth: Sequence[Mapping[str, Any]]) -> np.ndarray:
    # (S,T): crowds, and objects of another size; finding them is neither right nor wrong.
    crowd = np.array([bool(item.get("iscrowd", 0)) for item in truth])
    return _outside(np.array([item["area"] for item in truth], np.float64)) | crowd


def _match(
    verdicts: np.ndarray, overlaps: np.ndarray, truth: Sequence[Mapping[str, Any]], ignored: np.ndarray
) -> None:
    """COCO's matching of one class in one picture.

    Best score first, a detection takes the free object of the size that it overlaps most; if there is none,
    it may take one that is ignored, and is ignored with it. A crowd stays free. Of equals the last is taken.

    Args:
        verdicts: (S,I,D) where nothing is matched yet; changed here.
        overlaps: (D,T) IoUs; ignored: (S,T).
    """
    crowd = np.array([bool(item.get("iscrowd", 0)) for item in truth])
    free = np.ones((len(AREAS), len(IOU), len(truth)), bool)
    for number in np.flatnonzero((overlaps >= IOU[0]).any(1)):
        fits = free & (overlaps[number] >= IOU[:, None])  # (S,I,T)
        better = fits & ~ignored[:, None]
        fits = np.where(better.any(-1, keepdims=True), better, fits)
        backwards = np.where(fits, overlaps[number], -1.0)[..., ::-1]
        taken = len(truth) - 1 - backwards.argmax(-1)  # (S,I)
        size, at = np.nonzero(fits.any(-1))
        which = taken[size, at]
        verdicts[size, at, number] = np.where(ignored[size, which], _IGNORED, _RIGHT)
        free[size, at, which] = crowd[which]

"""Labels that a trained model strongly disagrees with: another class, an object nobody labelled, or none."""

# Shapes: T labelled objects of a picture, D detections.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.doctor import Example, Finding, Subject
from focus_detr.data.doctor.findings import Box
from focus_detr.data.records import Record
from focus_detr.evaluation.matching import overlaps
from focus_detr.inference.results import BadImage, Detections

if TYPE_CHECKING:
    from focus_detr.inference import Predictor

SAME, APART = 0.5, 0.3
"""Overlaps from which a detection is of an object, and up to which it is of none."""
_WEAK = 0.05
"""Score of detections that still say that something was seen."""
_MOST_UNSEEN = 0.4
_MOST_EXAMPLES = 200


@dataclass(frozen=True)
class _Doubt:
    kind: str
    strength: float
    example: Example


def label_findings(subject: Subject, predictor: Predictor, progress: bool = False) -> list[Finding]:
    """The labels to look at first, the strongest disagreement first in each finding.

    - `doubtful-class`: where an object is labelled, the model is sure (`sure_score`) of another class, and
      sees less than half as much of the labelled one.
    - `unlabelled-object`: the model is sure of an object where none is labelled, nor a crowd region.
    - `unseen-object`: nothing is seen, of any class, not even weakly, where an object is labelled.

    Classes are compared by name; those that the model or the data set does not know are left aside.
    """
    findings: list[Finding] = []
    for split, dataset in subject.datasets.items():
        shared = set(dataset.class_names) & set(predictor.class_names)
        if not shared:
            findings.append(_strangers(split, dataset, predictor))
            continue
        readable = [record for record in dataset.records if record.path not in subject.survey.unreadable]
        objects = sum(len(record.labels) for record in readable)
        doubts: dict[str, list[_Doubt]] = {kind: [] for kind in _SAID}
        for record, found in _predicted(readable, predictor, progress):
            for doubt in _doubts(record, found, dataset, shared, sure_score(predictor)):
                doubts[doubt.kind].append(doubt)
        findings += _findings(split, dataset, doubts, objects)
    return findings


def sure_score(predictor: Predictor) -> float:
    """The score from which a model counts as sure: halfway from its threshold to 1, 0.5 at least."""
    return max(0.5, (1 + predictor.threshold) / 2)


def _predicted(
    records: Sequence[Record], predictor: Predictor, progress: bool
) -> Iterator[tuple[Record, Detections]]:
    paths = [str(record.path) for record in records]
    results = predictor.predict(paths, threshold=_WEAK, progress=progress)
    for record, found in zip(records, results, strict=True):
        if not isinstance(found, BadImage):
            yield record, found


def _doubts(
    record: Record, found: Detections, dataset: DetectionDataset, shared: set[str], sure: float
) -> Iterator[_Doubt]:
    boxes, crowds = record.boxes_xyxy.astype(np.float64), record.crowds.boxes_xyxy.astype(np.float64)
    names = [dataset.class_names[label] for label in record.labels]
    seen = [found.names[label] for label in found.labels]
    seen_boxes = found.boxes_xyxy.astype(np.float64)
    overlap = overlaps(seen_boxes, boxes)  # (D,T)
    in_crowd = overlaps(seen_boxes, crowds, crowd=True).max(1, initial=0)
    for row, name in enumerate(names):
        if name not in shared:
            continue
        on_it = np.flatnonzero(overlap[:, row] >= SAME)
        # A detection that is rather of a neighbour says nothing of this one.
        on_it = on_it[overlap[on_it].argmax(1) == row]
        scores: dict[str, float] = {}
        for each in on_it.tolist():
            scores[seen[each]] = max(scores.get(seen[each], 0.0), float(found.scores[each]))
        other = max((each for each in scores if each in shared), key=lambda each: scores[each], default=name)
        if other != name and scores[other] >= sure and scores.get(name, 0.0) < scores[other] / 2:
            text = f"labelled {name}, seen as {other} {scores[other]:.2f}"
            yield _Doubt("doubtful-class", scores[other], Example(record.path, _box(boxes[row]), text))
        if overlap[:, row].max(initial=0) < APART:
            sides = boxes[row, 2:] - boxes[row, :2]
            text = f"labelled {name}, nothing seen"
            yield _Doubt("unseen-object", float(sides.prod()), Example(record.path, _box(boxes[row]), text))
    for each in np.flatnonzero(found.scores >= sure).tolist():
        alone = overlap[each].max(initial=0) < APART and in_crowd[each] < SAME
        if seen[each] in shared and alone:
            score = float(found.scores[each])
            example = Example(
                record.path, _box(seen_boxes[each]), f"seen as {seen[each]} {score:.2f}, no label"
            )
            yield _Doubt("unlabelled-object", score, example)


_SAID: Mapping[str, tuple[str, str]] = {
    "doubtful-class": (
        "objects are labelled as one class, and the model is sure of another",
        "Look at the crops, and correct the class where the model is right.",
    ),
    "unlabelled-object": (
        "places have no label, and the model is sure of an object",
        "Look at the crops, and label what was forgotten: it is taught as background now.",
    ),
    "unseen-object": (
        "objects are labelled where the model sees nothing, the largest first",
        "Look at the crops: a box in the wrong place, or an object as no other.",
    ),
}


def _findings(
    split: str, dataset: DetectionDataset, doubts: Mapping[str, list[_Doubt]], objects: int
) -> Iterator[Finding]:
    for kind, found in doubts.items():
        if not found:
            continue
        what, fix = _SAID[kind]
        if kind == "unseen-object" and len(found) > _MOST_UNSEEN * objects:
            yield Finding(
                "model-sees-little", "note", dataset.name,
                f"the model sees nothing where {len(found)} of {objects} objects are labelled",
                "Ask a model that was trained on data like these.", split,
            )  # fmt: skip
            continue
        found = sorted(found, key=lambda doubt: -doubt.strength)
        examples = tuple(doubt.example for doubt in found[:_MOST_EXAMPLES])
        first = examples[0]
        yield Finding(
            kind, "warning", str(first.path), f"{len(found)} {what}; first {first.caption}", fix, split,
            examples=examples,
        )  # fmt: skip


def _strangers(split: str, dataset: DetectionDataset, predictor: Predictor) -> Finding:
    return Finding(
        "model-of-other-classes", "note", dataset.name,
        f"the model and the data set have no class in common: {dataset.class_names[0]} and "
        f"{predictor.class_names[0]} for two",
        "Ask a model that was trained for these classes.", split,
    )  # fmt: skip


def _box(values: np.ndarray) -> Box:
    left, top, right, bottom = (round(float(value), 2) for value in values)
    return left, top, right, bottom

"""Labels are doubted where a model is sure of something else, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focus_detr.data.doctor import Finding, examine
from focus_detr.doctor.labels import label_findings, sure_score
from focus_detr.inference.results import BadImage, Detections
from focus_detr.structures.instances import Instances
from helpers.doctor_data import Healthy

# Of the first two pictures of `Healthy`: cats and dogs where they are labelled.
RIGHT = [
    ("cat", [5, 5, 25, 25]),
    ("cat", [60, 8, 90, 33]),
    ("dog", [10, 50, 35, 80]),
    ("dog", [70, 45, 105, 75]),
]


class Seeing:
    """Stands for a predictor: sees what is labelled but for one picture, of which it is told."""

    def __init__(
        self, seen: Sequence[tuple[str, list[float], float]], names: Sequence[str] = ("dog", "cat", "emu")
    ):
        self.class_names, self.threshold, self._seen = tuple(names), 0.4, seen

    def predict(self, paths: Sequence[str], *, threshold: float, progress: bool) -> Iterator[Any]:
        assert threshold < 0.1  # what is hardly seen is not unseen
        for number, path in enumerate(paths):
            seen = self._seen if number == 0 else [(name, box, 0.8) for name, box in RIGHT]
            labels = np.array([self.class_names.index(name) for name, _, _ in seen], dtype=np.int64)
            boxes = np.array([box for _, box, _ in seen], dtype=np.float32).reshape(-1, 4)
            objects = Instances(
                boxes, labels, scores=np.array([score for _, _, score in seen], dtype=np.float32)
            )
            yield Detections(path, objects, self.class_names, (90, 120))


def _found(tmp_path: Path, seen: Sequence[tuple[str, list[float], float]]) -> dict[str, Finding]:
    subject = examine(Healthy(tmp_path, {"train": 3}).write()).subject
    return {each.kind: each for each in label_findings(subject, Seeing(seen))}  # type: ignore[arg-type]


def _right(but: int, *instead: tuple[str, list[float], float]) -> list[tuple[str, list[float], float]]:
    return [(name, box, 0.8) for number, (name, box) in enumerate(RIGHT) if number != but] + list(instead)


def test_a_model_that_agrees_doubts_nothing(tmp_path: Path) -> None:
    assert _found(tmp_path, _right(-1)) == {}


def test_another_class_is_doubted_where_the_model_is_sure(tmp_path: Path) -> None:
    found = _found(tmp_path, _right(0, ("dog", [5, 5, 25, 26], 0.9)))
    assert list(found) == ["doubtful-class"]
    (example,) = found["doubtful-class"].examples
    assert example.box_xyxy == (5, 5, 25, 25) and example.path.name == "train0.png"
    assert example.caption == "labelled cat, seen as dog 0.90"


@pytest.mark.parametrize(
    "seen",
    [
        [("dog", [5, 5, 25, 25], 0.6)],  # not sure
        [("dog", [5, 5, 25, 25], 0.9), ("cat", [5, 5, 25, 25], 0.5)],  # nor that it is no cat
        [("emu", [5, 5, 25, 25], 0.9)],  # the data set knows no emu
    ],
)
def test_a_class_is_not_doubted_by_less(seen: list[tuple[str, list[float], float]], tmp_path: Path) -> None:
    assert "doubtful-class" not in _found(tmp_path, _right(0, *seen))


def test_objects_without_label_and_labels_without_object_are_found(tmp_path: Path) -> None:
    found = _found(tmp_path, _right(1, ("dog", [40, 60, 60, 85], 0.85)))
    assert set(found) == {"unlabelled-object", "unseen-object"}
    assert found["unlabelled-object"].examples[0].box_xyxy == (40, 60, 60, 85)
    assert found["unseen-object"].examples[0].box_xyxy == (60, 8, 90, 33)
    hardly = _found(tmp_path / "b", _right(1, ("cat", [60, 8, 90, 33], 0.06)))
    assert hardly == {}


def test_what_is_seen_in_a_crowd_needs_no_label(tmp_path: Path) -> None:
    data = Healthy(tmp_path, {"train": 3})
    of_first = data.splits["train"]["annotations"]
    of_first.append({**of_first[0], "id": 999, "bbox": [36, 55, 30, 34], "iscrowd": 1})
    seen = _right(-1, ("dog", [40, 60, 60, 85], 0.85))
    subject = examine(data.write()).subject
    assert label_findings(subject, Seeing(seen)) == []  # type: ignore[arg-type]


def test_a_model_that_sees_nothing_is_said_to_be_the_wrong_one(tmp_path: Path) -> None:
    subject = examine(Healthy(tmp_path, {"train": 1}).write()).subject
    (said,) = label_findings(subject, Seeing([]))  # type: ignore[arg-type]
    assert (said.kind, said.severity) == ("model-sees-little", "note") and "4 of 4" in said.message
    (said,) = label_findings(subject, Seeing([], names=("car", "bus")))  # type: ignore[arg-type]
    assert said.kind == "model-of-other-classes"


def test_pictures_that_the_model_cannot_read_are_passed_over(tmp_path: Path) -> None:
    subject = examine(Healthy(tmp_path, {"train": 2}).write()).subject
    seeing = Seeing(_right(-1))
    seeing.predict = lambda paths, **_: iter([BadImage(path, "gone") for path in paths])  # type: ignore[method-assign]
    assert label_findings(subject, seeing) == []  # type: ignore[arg-type]


def test_sure_is_halfway_from_the_threshold_to_one() -> None:
    seeing = Seeing([])
    assert sure_score(seeing) == pytest.approx(0.7)  # type: ignore[arg-type]
    seeing.threshold = 0.0
    assert sure_score(seeing) == 0.5  # type: ignore[arg-type]

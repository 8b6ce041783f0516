"""What is reported of a model's answers: scores to reach, by class, and classes, under names of one's own."""

# Shapes: k classes.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from focus_detr.errors import FocusDetrError, did_you_mean

Threshold = float | Mapping[str | int, float]
"""A score that detections must reach, or one by class (name or label)."""

Classes = Sequence[str | int] | Mapping[str | int, str] | str | int
"""Those wanted, by name or label; a mapping says what each of them is reported as."""


def checked_threshold(threshold: Any) -> float:
    """A score between 0 and 1; `FocusDetrError` for anything else."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise FocusDetrError(f"threshold={threshold!r}: must be a score between 0 and 1")
    return float(threshold)


def lowest_scores(threshold: Mapping[str | int, float], names: Sequence[str], otherwise: float) -> np.ndarray:
    """The score (k,) float32, as scores are, that detections of each class must reach.

    ``otherwise`` is that of classes which ``threshold`` does not name.

    Raises:
        FocusDetrError: a threshold is no score, or the model has no such class.
    """
    scores = np.full(len(names), otherwise, dtype=np.float32)
    for name, score in threshold.items():
        scores[resolve_classes(name, names, "threshold")] = checked_threshold(score)
    return scores


def reported_classes(classes: Classes, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The label (k,) that each class is reported by, -1 for those not wanted, and the names by label.

    Labels stay those of the model: what is renamed keeps its own, what is merged gets that of the class which
    already has the name, else the first one's.

    Raises:
        FocusDetrError: the model has no such class, or a new name is none.
    """
    labels = np.full(len(names), -1)
    if not isinstance(classes, Mapping):
        wanted = resolve_classes(classes, names)
        labels[wanted] = wanted
        return labels, tuple(names)
    new_names = {label: _name(classes[key], key) for key in classes for label in resolve_classes(key, names)}
    if not new_names:
        resolve_classes([], names)  # says that none is given
    reported, homes = list(names), dict[str, int]()
    for label, name in sorted(new_names.items()):
        if name not in homes:
            keeping = [other for other, old in enumerate(names) if old == name == new_names.get(other, old)]
            homes[name] = keeping[0] if keeping else label
        labels[label] = homes[name]
        reported[homes[name]] = name
    return labels, tuple(reported)


def resolve_classes(
    classes: Sequence[str | int] | str | int, names: Sequence[str], option: str = "classes"
) -> list[int]:
    """The labels that class names or labels stand for; `FocusDetrError` for one the model does not know."""
    wanted = [classes] if isinstance(classes, str | int) else list(classes)
    if not wanted:
        raise FocusDetrError(f"{option}: none given; leave it out for all, or name some of {_some(names)}")
    labels = []
    for value in wanted:
        if isinstance(value, str):
            matches = [label for label, name in enumerate(names) if name == value]
            if not matches:
                hint = did_you_mean(value, names) or f"; known: {_some(names)}"
                raise FocusDetrError(f"{option}: the model has no class {value!r}{hint}")
            labels += matches
        elif isinstance(value, bool) or not (isinstance(value, int | np.integer) and 0 <= value < len(names)):
            raise FocusDetrError(
                f"{option}: {value!r} is no label; use a class name or 0 to {len(names) - 1}"
            )
        else:
            labels.append(int(value))
    return labels


def _name(name: Any, old: str | int) -> str:
    if not isinstance(name, str) or not name.strip():
        raise FocusDetrError(f"classes: {old!r} is to be reported as {name!r}, which is no name")
    return name.strip()


def _some(names: Sequence[str], count: int = 20) -> str:
    rest = f", ... ({len(names) - count} more)" if len(names) > count else ""
    return ", ".join(names[:count]) + rest

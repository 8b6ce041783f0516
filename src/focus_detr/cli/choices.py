"""`--threshold` and `--classes`: what of a model's answers is reported, and what of a data set is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from focus_detr.cli.options import split_names
from focus_detr.errors import FocusDetrError


def parse_thresholds(texts: Sequence[str]) -> dict[str | None, float]:
    """`["0.3", "person=0.5,car=0.6"]` to scores by class, that of all others under None."""
    scores: dict[str | None, float] = {}
    for text in texts:
        parts = [_score(part) for part in text.split(",")]
        if None in parts:  # a comma may be of a name
            parts = [_score(text)]
        for part in parts:
            if part is None:
                raise FocusDetrError(
                    f"--threshold {text!r}: must be a score between 0 and 1, or class=score, as in person=0.5"
                )
            key, score = part
            if key in scores:
                whose = "all classes" if key is None else repr(key)
                raise FocusDetrError(
                    f"--threshold {text!r}: the score of {whose} is said twice; leave one out"
                )
            scores[key] = score
    return scores


def _score(text: str) -> tuple[str | None, float] | None:
    """`"person=0.5"` to the class and its score, `"0.3"` to that of all; None for what is neither."""
    name, equals, value = text.rpartition("=")
    try:
        score = float(value)
    except ValueError:
        return None
    name = name.strip()
    if not 0 <= score <= 1 or (equals and not name):
        return None
    return (name if equals else None), score


def thresholds_kept(scores: dict[str | None, float]) -> dict[str, Any]:
    """Fields of a recipe by which a model keeps scores of `parse_thresholds` as its own."""
    by_class = {name: score for name, score in scores.items() if name is not None}
    fields: dict[str, Any] = {"model.class_thresholds": by_class} if scores else {}
    return fields | ({"model.score_threshold": scores[None]} if None in scores else {})


def threshold_of(
    scores: dict[str | None, float], names: Sequence[str]
) -> float | dict[str | int, float] | None:
    """What `Predictor.predict` takes, for a model of the classes ``names``."""
    by_class: dict[str | int, float] = {name: score for name, score in scores.items() if name is not None}
    if not by_class:
        return scores.get(None)
    return {**dict.fromkeys(names, scores[None]), **by_class} if None in scores else by_class


def renaming_of(text: str) -> dict[str | int, str]:
    """`"a,b=c"` to `{"a": "a", "b": "c"}`, as recipes have it."""
    classes = classes_of(text, ()) or []
    if not classes:
        raise FocusDetrError(f"--classes {text!r}: names none; leave it out for all")
    return classes if isinstance(classes, dict) else {name: name for name in classes}


def classes_of(text: str | None, names: Sequence[str]) -> list[str] | dict[str | int, str] | None:
    """`"a,b=c"` to what `Predictor.predict` takes: those wanted, or what each of them is reported as.

    A name of the model that holds a `=` is a name.
    """
    entries = split_names(text)
    if entries is None or not any("=" in entry for entry in entries if entry not in names):
        return entries
    reported: dict[str | int, str] = {}
    for entry in entries:
        old, equals, new = (entry, "", entry) if entry in names else entry.rpartition("=")
        old, new = (old.strip(), new.strip()) if equals else (entry, entry)
        if not old or not new:
            raise FocusDetrError(f"--classes {entry!r}: must be a class, or class=name, as in car=vehicle")
        if reported.get(old, new) != new:
            raise FocusDetrError(
                f"--classes {entry!r}: {old!r} is also to be {reported[old]!r}; leave one out"
            )
        reported[old] = new
    return reported

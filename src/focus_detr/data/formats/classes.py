"""Which classes a data set is read with, and what label each of the source's categories has among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from focus_detr.data.formats.source import Source
from focus_detr.errors import FocusDetrError
from focus_detr.printable import listed

ClassNames = Sequence[str] | Mapping[int, str] | Mapping[str, str]


def given_names(classes: ClassNames) -> list[str]:
    """Names by label; raises `FocusDetrError` where labels have gaps or names come twice."""
    if isinstance(classes, str):
        raise FocusDetrError(f"classes={classes!r}: must be a list of names or a map from label to name.")
    if isinstance(classes, Mapping):
        by_label = {int(label): name for label, name in classes.items()}
        if sorted(by_label) != list(range(len(by_label))):
            raise FocusDetrError(f"classes={dict(classes)!r}: labels must be 0, 1, 2, ... without gaps.")
        names = [by_label[label] for label in range(len(by_label))]
    else:
        names = list(classes)
    twice = _twice(names)
    if not names or twice:
        raise FocusDetrError(f"classes: {'given twice: ' + listed(twice) if twice else 'none given'}.")
    return names


def shared_names(sources: list[Source], root: Path) -> list[str]:
    """The names that all `sources` have alike; raises `FocusDetrError` where they differ."""
    names = list(sources[0].categories.values())
    for source in sources[1:]:
        if list(source.categories.values()) != names:
            raise FocusDetrError(
                f"{root}: the splits name different classes, {listed(names)} and "
                f"{listed(source.categories.values())}. "
                "Give classes=[...] to say which count."
            )
    if twice := _twice(names):
        raise FocusDetrError(f"{root}: class names given twice: {listed(twice)}.")
    return names


def check_overlap(names: list[str], sources: list[Source], root: Path) -> None:
    """Raises `FocusDetrError` where the sources have none of `names`."""
    there = [name for source in sources for name in source.categories.values()]
    if not set(names) & set(there):
        raise FocusDetrError(
            f"{root}: none of the classes asked for ({listed(names)}) is in the data set, which has "
            f"{listed(dict.fromkeys(there))}. Names must be spelled alike."
        )


def labels_by_category(source: Source, names: list[str]) -> dict[int, int | None]:
    """The label of every category of the source, None of those that are not among `names`."""
    label_of = {name: label for label, name in enumerate(names)}
    return {category: label_of.get(name) for category, name in source.categories.items()}


def category_ids(sources: list[Source], names: list[str]) -> list[int]:
    """The source's id of every class; classes it does not have get ids it does not use."""
    known = {name: category for source in reversed(sources) for category, name in source.categories.items()}
    free = max(known.values()) + 1
    identifiers = []
    for name in names:
        identifiers.append(known.get(name, free))
        free += name not in known
    return identifiers


def _twice(names: list[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)

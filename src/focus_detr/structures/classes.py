"""Which classes are wanted, and what each is reported as: of a model's answers, of a data set's objects."""

# Shapes: k classes.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from focus_detr.errors import FocusDetrError, did_you_mean

Classes = Sequence[str | int] | Mapping[str | int, str] | str | int
"""Those wanted, by name or label; a mapping says what each of them is reported as."""


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


def new_names(classes: Classes, names: Sequence[str]) -> dict[str, str]:
    """What each wanted class is reported as, by its name; labels count among ``names``.

    Names are not looked for: there may be more than one place that they can be found in.
    """
    entries = classes if isinstance(classes, Mapping) else {
        key: None for key in ([classes] if isinstance(classes, str | int) else classes)
    }  # fmt: skip
    if not entries:
        resolve_classes([], names)  # says that none is given
    found = dict[str, str]()
    for key, new in entries.items():
        name = key if isinstance(key, str) else names[resolve_classes(key, names)[0]]
        found[name] = name if new is None else _name(new, key)
    return found


def renamed_among(renamed: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """``renamed``, of what is among ``names``; a class that has a new name already keeps it."""
    own = {new: new for new in renamed.values() if new in names and new not in renamed}
    return {old: new for old, new in renamed.items() if old in names} | own


def refuse_unknown(renamed: Iterable[str], known: Iterable[str], where: str, option: str = "classes") -> None:
    """Raise `FocusDetrError` where a class is in none of the places that ``where`` names."""
    names = list(dict.fromkeys(known))
    for name in renamed:
        if name not in names:
            hint = did_you_mean(name, names) or f"; known: {_some(names)}"
            raise FocusDetrError(f"{option}: {where} no class {name!r}{hint}")


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

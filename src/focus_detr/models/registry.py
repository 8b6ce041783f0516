"""Registries of token policies and hosts: names to classes, and each class's own options, strictly read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from focus_detr.errors import FocusDetrError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name. ``kind`` names what they are in messages, as the configuration's field does."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Decorator: makes a class known as ``name``, which no other may have."""

        def add(registered: type[T]) -> type[T]:
            if self._classes.get(name, registered) is not registered:
                raise FocusDetrError(f"{self.kind} {name!r} is already registered; choose another name")
            self._classes[name] = registered
            return registered

        return add

    def names(self) -> list[str]:
        """All names, in the order they were registered."""
        return list(self._classes)

    def modules(self) -> set[str]:
        """The modules that the classes are defined in."""
        return {registered.__module__ for registered in self._classes.values()}

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._classes:
            hint = did_you_mean(name, self._classes)
            raise FocusDetrError(
                f"{self.kind}={name!r}: not known{hint}; known: {', '.join(self._classes)}; one of your own "
                "needs the module that registers it in plugins"
            )
        return self._classes[name]


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """For a policy or host without options of its own."""


def read_options(options: type[T], values: dict[str, Any], where: str) -> T:
    """An instance of the dataclass ``options``; unknown names and values of another type are refused.

    Every field needs a default, which says what kind of value it takes.

    Args:
        where: how messages name the values, as in ``policy_options``.
    """
    # `T` cannot be bound to dataclasses: their protocol is typeshed's own.
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise FocusDetrError(f"{where}: unknown key {name!r}{did_you_mean(name, fields)}; known: {known}")
        default = _default(fields[name])
        if not _alike(value, default):
            raise FocusDetrError(
                f"{where}[{name!r}]={value!r}: must be of the kind of its default, {default!r}"
            )
    # JSON knows lists only; a default that is a tuple asks for one.
    return options(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, tuple):
        item = default[0] if default else 0.0  # those without any are of numbers
        return isinstance(value, list | tuple) and all(_alike(each, item) for each in value)
    if isinstance(default, dict):  # of names to names
        return isinstance(value, dict) and all(
            isinstance(each, str) for pair in value.items() for each in pair
        )
    return isinstance(value, type(default))

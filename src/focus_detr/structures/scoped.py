"""Settings that hold inside `with` blocks, for whoever entered them and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Scoped(Generic[Value]):
    """A value with a default, and another inside blocks of ``with scoped.to(value):``.

    It changes for the thread, or asyncio task, that enters a block, and for tasks made inside it. Other
    threads keep theirs, those started inside the block too: `contextvars.copy_context().run` hands it on.
    """

    def __init__(self, name: str, default: Value) -> None:
        self.default = default
        self._entered: ContextVar[tuple[list[Value], ...]] = ContextVar(name, default=())

    def get(self) -> Value:
        """The value of the block entered last, of those not yet left."""
        entered = self._entered.get()
        return entered[-1][0] if entered else self.default

    @contextmanager
    def to(self, value: Value) -> Iterator[None]:
        """Inside the block, the value is ``value``."""
        entry = [value]
        self._entered.set((*self._entered.get(), entry))
        try:
            yield
        finally:
            # Its own entry goes, whatever others came and went: blocks held by generators need not nest.
            self._entered.set(tuple(each for each in self._entered.get() if each is not entry))

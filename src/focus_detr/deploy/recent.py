"""A bounded store of things made once and used again, for many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")


class Recent(Generic[Made]):
    """What was made for the keys asked for last, as much as fits in ``limit``. Copies and pickles are empty.

    Args:
        limit: sum of the sizes of all that is kept.
        size: of one; each counts as 1 if left out.
    """

    def __init__(self, limit: int, size: Callable[[Made], int] | None = None) -> None:
        self.limit, self.size = limit, size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Made, int]] = OrderedDict()
        self._total = 0

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is kept for ``key``, or what ``make`` makes for it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        # Without the lock, so that other keys need not wait: two threads may make the same, and one is kept.
        value = make()
        size = 1 if self.size is None else self.size(value)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value, size
                self._total += size
            while self._total > self.limit:
                self._total -= self._kept.popitem(last=False)[1][1]
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._total = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self.limit, self.size)

"""Memory that requests may take together: who finds no room is turned away before memory runs out."""

from __future__ import annotations

import threading

from focus_detr import machine

_LEAST = 64 * 2**20


class Room:
    """So many bytes, of which requests take what they need and give it back.

    Args:
        limit: of all together.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self._used = limit, 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int) -> bool:
        """Take ``size`` bytes, if there is room for them."""
        with self._lock:
            if self._used + size > self.limit:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size


class Share:
    """What one request has taken of a room."""

    def __init__(self, room: Room) -> None:
        self.room, self.size = room, 0

    def grow(self, size: int) -> bool:
        """Whether it may have ``size`` bytes in all; it has them then."""
        more = size - self.size
        if more <= 0:
            return True
        if not self.room.take(more):
            return False
        self.size = size
        return True

    def close(self) -> None:
        self.room.give_back(self.size)
        self.size = 0


def free_memory() -> int:
    """Bytes that this process may still take, and some where there seem to be none."""
    return max(_LEAST, machine.free_memory())

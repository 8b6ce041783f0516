"""What a picture may cost, and which frames of a video are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.images.reading import MAX_PIXELS

_EARLY = 0.002
"""Seconds that a frame may come before its turn: clocks of videos count in milliseconds, some, and round."""


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        timeout: seconds that a download may take, redirects and all; and that a stream may be silent.
        max_megabytes: largest download, and largest member of an archive.
        max_pixels: largest image; more is refused before it is decoded.
        private_redirects: whether a server may redirect to an address inside one's own networks.
        every: of a video, a stream or an animation, every n-th frame is looked at, the first one included.
        fps: frames looked at for each second of it, at the most; all where it has fewer.
        reconnects: attempts in a row to reach a stream or camera that was lost, before it is given up.
    """

    timeout: float = 10.0
    max_megabytes: float = 100.0
    max_pixels: int = MAX_PIXELS
    private_redirects: bool = False
    every: int = 1
    fps: float | None = None
    reconnects: int = 10

    @classmethod
    def of(cls, options: Mapping[str, Any], others: Iterable[str] = ()) -> SourceOptions:
        """Raises `FocusDetrError` for an option that is none, and may be a misspelt one of ``others``."""
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                known = [*others, *names]
                hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
                raise FocusDetrError(f"unknown option {name!r}{hint}")
        return cls(**options)

    def __post_init__(self) -> None:
        for name in ("timeout", "max_megabytes", "max_pixels", "fps"):
            value = getattr(self, name)
            if name == "fps" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise FocusDetrError(f"{name}={value!r}: must be a number above 0")
        for name, least in (("every", 1), ("reconnects", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise FocusDetrError(f"{name}={value!r}: must be a whole number, {least} or more")
        if self.every > 1 and self.fps is not None:
            raise FocusDetrError(f"every={self.every}, fps={self.fps}: both say which frames; leave one out")

    def chooser(self) -> Callable[[int, float], bool]:
        """Whether the frame of an index and a time in seconds is looked at; asked of a video's in order."""
        if self.fps is None:
            return lambda index, seconds: index % self.every == 0
        fps, last = self.fps, -math.inf

        def due(index: int, seconds: float) -> bool:
            nonlocal last
            turn = math.floor((seconds + _EARLY) * fps)
            if turn <= last:
                return False
            last = turn
            return True

        return due

    def rate_of(self, rate: float | None) -> float | None:
        """Frames a second that are looked at, of those of a video."""
        if rate is None:
            return None
        return rate / self.every if self.fps is None else min(rate, self.fps)

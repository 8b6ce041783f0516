"""Counts of tracked objects: how many cross a line, each way, and how many are in a zone, by class."""

# Shapes: T objects.

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.inference.results import BadImage, Detections

Result = TypeVar("Result", Detections, BadImage, Detections | BadImage)

CLEAR = 0.1
"""How far from a line an object's centre has to be to lie on a side of it, as a share of its box's shorter
side: boxes tremble, and one that stands on the line would cross it with every frame."""


@dataclass(frozen=True)
class Line:
    """From `start` to `end`, (x, y) in pixels each. Seen along it, objects cross to its right or left."""

    start: tuple[float, float]
    end: tuple[float, float]

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise FocusDetrError(f"a line from {self.start} to itself has no sides; give two points")


@dataclass(frozen=True)
class Zone:
    """The inside of a polygon, three corners (x, y) in pixels or more."""

    corners: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        if len(set(self.corners)) < 3:
            raise FocusDetrError(f"a zone of {len(set(self.corners))} corners has no inside; give 3 or more")


class Counts:
    """Counts the objects of results that are tracked, for each video by itself.

    The place of an object is the centre of its box, its class the one that it was most often seen as.
    """

    def __init__(self, lines: Sequence[Line] = (), zones: Sequence[Zone] = ()) -> None:
        self.lines, self.zones = list(lines), list(zones)
        self._videos: dict[str, _VideoCounts] = {}

    def __bool__(self) -> bool:
        """Whether there is something to count at."""
        return bool(self.lines or self.zones)

    def add(self, result: Result) -> Result:
        """Count what has changed in a video's next frame, which is returned with what is `counted` until it.

        That is `lines`, a dict of crossings `to_right` and `to_left` each, and `zones`, how many objects are
        in each, of all classes. Other pictures, and bad ones, count nothing.
        """
        if isinstance(result, BadImage) or result.frame is None or result.track_ids is None:
            return result
        video = self._videos.get(result.frame.video)
        if video is None:
            passings = [_Passings(line) for line in self.lines]
            stays = [_Stays(zone) for zone in self.zones]
            video = self._videos[result.frame.video] = _VideoCounts(passings, stays)
        video.add(result)
        if not self:
            return result
        crossings, inside = self.now(result.frame.video)
        lines = [{"to_right": right, "to_left": left} for right, left in crossings]
        return replace(result, counted={"lines": lines, "zones": inside})

    def now(self, video: str) -> tuple[list[tuple[int, int]], list[int]]:
        """Of a video so far: crossings of each line to its right and left, and how many objects are in each
        zone, of all classes."""
        counts = self._videos.get(video)
        if counts is None:
            return [(0, 0)] * len(self.lines), [0] * len(self.zones)
        passings = [(len(passing.to_right), len(passing.to_left)) for passing in counts.passings]
        return passings, [len(stay.now) for stay in counts.stays]

    def to_list(self) -> list[dict[str, Any]]:
        """For each video its name, `tracks` by class, and its lines and zones with their counts by class:
        crossings `to_right` and `to_left`; objects that were in the zone (`entered`), that are (`now`), and
        of all classes the `most` at once."""
        return [{"video": name, **video.to_dict()} for name, video in self._videos.items()]


@dataclass
class _VideoCounts:
    passings: list[_Passings]
    stays: list[_Stays]
    seen_as: dict[int, Counter[str]] = field(default_factory=dict)
    """How often each track was of which class."""

    def add(self, result: Detections) -> None:
        assert result.track_ids is not None
        tracked = np.flatnonzero(result.track_ids >= 0)
        ids = result.track_ids[tracked].tolist()
        boxes = result.boxes_xyxy[tracked].astype(np.float64)
        for number, name in zip(ids, np.array(result.class_names, dtype=object)[tracked], strict=True):
            self.seen_as.setdefault(number, Counter())[name] += 1
        for passing in self.passings:
            passing.add(ids, boxes)
        for stay in self.stays:
            stay.add(ids, boxes)

    def to_dict(self) -> dict[str, Any]:
        return {
            "tracks": self._by_class(list(self.seen_as)),
            "lines": [
                {
                    "start": passing.line.start,
                    "end": passing.line.end,
                    "to_right": self._by_class(passing.to_right),
                    "to_left": self._by_class(passing.to_left),
                }
                for passing in self.passings
            ],
            "zones": [
                {
                    "corners": [list(corner) for corner in stay.zone.corners],
                    "entered": self._by_class(list(stay.entered)),
                    "now": self._by_class(stay.now),
                    "most": stay.most,
                }
                for stay in self.stays
            ],
        }

    def _by_class(self, ids: list[int]) -> dict[str, int]:
        return dict(Counter(self.seen_as[number].most_common(1)[0][0] for number in ids))


class _Passings:
    """The tracks that crossed a line, each time that they did."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.to_right: list[int] = []
        self.to_left: list[int] = []
        self._start = np.array(line.start, dtype=np.float64)
        self._along = np.array(line.end, dtype=np.float64) - self._start
        self._last: dict[int, np.ndarray] = {}  # where each track was last clear of the line

    def add(self, ids: list[int], boxes_xyxy: np.ndarray) -> None:
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        clear = CLEAR * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).min(axis=1)
        for number, centre, distance in zip(ids, centres, clear, strict=True):
            side = self._side(centre)
            if abs(side) <= distance * np.hypot(*self._along):
                continue
            before = self._last.get(number)
            self._last[number] = centre
            if before is None or (self._side(before) > 0) == (side > 0):
                continue
            # The way from the one place to the other passes between the line's ends.
            if _turn(before, centre, self._start) * _turn(before, centre, self._start + self._along) <= 0:
                (self.to_right if side > 0 else self.to_left).append(number)

    def _side(self, point: np.ndarray) -> float:
        """Above 0 to the right of the line, seen along it, where y points down."""
        return _turn(self._start, self._start + self._along, point)


class _Stays:
    """The tracks that are and were in a zone."""

    def __init__(self, zone: Zone) -> None:
        from matplotlib.path import Path

        self.zone = zone
        self._inside = Path(np.array(zone.corners, dtype=np.float64))
        self.entered: dict[int, None] = {}
        self.now: list[int] = []
        self.most = 0

    def add(self, ids: list[int], boxes_xyxy: np.ndarray) -> None:
        inside = self._inside.contains_points((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2)
        self.now = [number for number, within in zip(ids, inside, strict=True) if within]
        self.entered.update(dict.fromkeys(self.now))
        self.most = max(self.most, len(self.now))


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Cross product of b - a and c - a."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

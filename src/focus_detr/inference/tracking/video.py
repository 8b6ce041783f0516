"""The tracks of one video: ByteTrack (Zhang et al. 2022), as the package `trackers` has it."""

# Shapes: T objects.

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np

from focus_detr.errors import FocusDetrError

_RATE = 25.0
"""Frames a second of a video that does not say."""


class VideoTracker:
    """Gives the objects of a video's frames their numbers.

    Args:
        rate: detections a second, on average; None where nobody knows.

    Raises:
        FocusDetrError: the package `trackers` is not installed.
    """

    def __init__(self, rate: float | None) -> None:
        self._tracker = _package("trackers").ByteTrackTracker(
            # Scores come as what they are good for: to begin a track, or to go on with one.
            track_activation_threshold=0.5,
            high_conf_det_threshold=0.5,
            frame_rate=rate or _RATE,
        )
        self._interval = None if rate is None else 1 / rate
        self._seconds: float | None = None
        self._ids = np.zeros(0, dtype=np.int64)
        self._moves: np.ndarray | None = None

    def update(self, boxes_xyxy: np.ndarray, sure: np.ndarray, seconds: float) -> np.ndarray:
        """Numbers (T,) int64 of the objects detected in a frame, counted from 1; -1 for those that have none.

        Args:
            boxes_xyxy: (T,4), pixels.
            sure: (T,) bool, which of them may begin a track; the others can only go on with one.
            seconds: time of the frame.
        """
        # Gaps between frames count by their time, where times are of any use.
        ordered = self._seconds is None or seconds > self._seconds
        detections = _package("supervision").Detections(
            xyxy=boxes_xyxy.astype(np.float32).reshape(-1, 4),
            confidence=sure.astype(np.float32),
            data={"row": np.arange(len(sure))},
        )
        timed = ordered and self._interval is not None
        tracked = self._tracker.update(detections, timestamp=seconds if timed else None)
        self._seconds = seconds
        self._ids = np.full(len(sure), -1, dtype=np.int64)
        if len(tracked):
            ids = np.asarray(tracked.tracker_id)
            self._ids[tracked.data["row"]] = np.where(ids >= 0, ids + 1, -1)
        self._moves = None
        return self._ids

    def moved(self, seconds: float, share: float) -> np.ndarray:
        """How far (T,4) the sides of the objects last detected have moved since, by the tracks' motion model.

        Args:
            seconds: time of the frame asked about.
            share: of the way to the next detection, where times are of no use.
        """
        if self._moves is None:
            self._moves = self._next_moves()
        if self._interval is not None and self._seconds is not None and seconds > self._seconds:
            share = (seconds - self._seconds) / self._interval
        return share * self._moves

    def _next_moves(self) -> np.ndarray:
        moves = np.zeros((len(self._ids), 4))
        tracks = {track.tracker_id + 1: track for track in self._tracker.tracks if track.tracker_id >= 0}
        for row, number in enumerate(self._ids.tolist()):
            if number in tracks:
                ahead = copy.deepcopy(tracks[number])
                moves[row] = ahead.predict() - tracks[number].get_state_bbox()
        return moves


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FocusDetrError(
            f"tracking needs the package trackers: pip install 'focus-detr[tracking]' ({error})"
        ) from error

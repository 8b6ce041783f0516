"""Tracking: the results of a run get the numbers of their objects, each video for itself."""

# Shapes: T objects, k classes.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.images.suppression import without_duplicates
from focus_detr.inference.choosing import Threshold, lowest_scores
from focus_detr.inference.results import Detections
from focus_detr.inference.tracking.video import VideoTracker
from focus_detr.structures.classes import Classes, reported_classes
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances, clip_to

FAINT = 0.5
"""Share of the threshold that goes on with a track: an object half hidden keeps its number."""

DUPLICATE = 0.7
"""Intersection over union beyond which of two boxes of a class the better one is tracked: models without
suppression give some objects several, each of which would get a number."""


class Tracking:
    """The tracks of all videos of a run.

    An object that reaches the threshold begins a track, and has a number from the second time on that it is
    detected. Then half of the threshold is enough to stay on it, for a second it may be missed, and its class
    may change. What is faint and of no track is not reported, nor are duplicates.

    Args:
        threshold: score to begin a track, or one by label.
        classes: as `Predictor.predict` takes them. Those reported as one class begin at the lowest of their
            thresholds.
        names: the model's class names.
        detect_every: frames from one detection to the next; between them, boxes move as their tracks did.

    Raises:
        FocusDetrError: an option cannot be used, or the package `trackers` is not installed.
    """

    def __init__(
        self,
        threshold: Threshold,
        names: Sequence[str],
        classes: Classes | None = None,
        detect_every: int = 1,
    ) -> None:
        if isinstance(detect_every, bool) or not isinstance(detect_every, int) or detect_every < 1:
            raise FocusDetrError(
                f"detect_every={detect_every!r}: must be a whole number of frames, 1 or more"
            )
        VideoTracker(None)  # says at once what is missing
        self.detect_every = detect_every
        scores = (
            lowest_scores(threshold, names, 0.0)
            if isinstance(threshold, Mapping)
            else np.full(len(names), threshold, dtype=np.float32)
        )
        self.detection_threshold: Threshold = dict(enumerate((FAINT * scores).tolist()))
        label_of = np.arange(len(names)) if classes is None else reported_classes(classes, names)[0]
        self._sure = np.array(
            [scores[label_of == label].min(initial=1.0) for label in range(len(names))], dtype=np.float32
        )
        self._videos: dict[str, _Video] = {}

    def place(self, frame: Frame | None) -> Place:
        """What is to be done with the next picture; to be asked once for each, in their order."""
        if frame is None:
            return Place()
        video = self._videos.get(frame.video)
        if video is None or (frame.index <= video.index and not frame.live):  # one that begins anew
            rate = None if frame.rate is None else frame.rate / self.detect_every
            video = self._videos[frame.video] = _Video(VideoTracker(rate))
        video.index = frame.index
        video.since = (video.since + 1) % self.detect_every
        return Place(video, detected=video.since == 0, share=video.since / self.detect_every)

    def follow(self, result: Detections, place: Place) -> Detections:
        """A picture's detections with the numbers of their tracks; where nobody looked, what tracks foretell.
        Pictures of no video have no numbers."""
        video, frame = place.video, result.frame
        if video is None or frame is None:
            return replace(result, instances=result.instances[self._are_sure(result)])
        if not place.detected:
            return replace(result, instances=video.moved(result, frame, place.share), foretold=True)
        result = _without_duplicates(result)
        sure = self._are_sure(result)
        ids = video.tracker.update(result.boxes_xyxy, sure, frame.seconds)
        video.rows = np.flatnonzero(ids >= 0)
        tracked = replace(result.instances, track_ids=ids)
        video.last = tracked[video.rows]
        return replace(result, instances=tracked[sure | (ids >= 0)])

    def _are_sure(self, result: Detections) -> np.ndarray:
        return result.scores >= self._sure[result.labels]


def _without_duplicates(result: Detections) -> Detections:
    kept = without_duplicates(result.boxes_xyxy, result.labels, DUPLICATE)
    return replace(result, instances=result.instances[kept])


class _Video:
    """What is known of a video so far."""

    def __init__(self, tracker: VideoTracker) -> None:
        self.tracker = tracker
        self.index = self.since = -1
        self.rows = np.zeros(0, dtype=np.int64)
        self.last = Instances.empty()

    def moved(self, result: Detections, frame: Frame, share: float) -> Instances:
        moves = self.tracker.moved(frame.seconds, share)[self.rows]
        height, width = result.image_size
        boxes, kept = clip_to((self.last.boxes_xyxy + moves).astype(np.float32), (width, height))
        return replace(self.last, boxes_xyxy=boxes, queries=None)[kept]


@dataclass(frozen=True)
class Place:
    """A picture's place in a run that tracks: its video, if it is of one, and whether it is to be detected;
    else, what share of the way to the next one that is."""

    video: _Video | None = None
    detected: bool = True
    share: float = 0.0

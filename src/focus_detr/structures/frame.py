"""Where a picture lies in a video, a stream or an animation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """The place of one picture among those of a video.

    Attributes:
        video: name of the video: its file, URL, camera.
        index: counts from 0 all frames that there are, those not looked at included.
        seconds: from the first frame; of a camera or stream, from when it was first opened.
        rate: frames a second of those looked at, on average; None where nobody knows.
        live: of a camera or stream, whose frames come once, whether anybody looks or not.
    """

    video: str
    index: int
    seconds: float
    rate: float | None = None
    live: bool = False

    @property
    def name(self) -> str:
        """Of the picture, as results have it: `clip.mp4#frame=12`."""
        return f"{self.video}#frame={self.index}"

"""Videos, by PyAV: their frames in order, none left out, and what is damaged said at its place."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import ImageSource, check_pixels
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.named import NamedImage, Nothing
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.printable import printable
from focus_detr.structures.frame import Frame

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv .mjpg .mjpeg".split()
)
CLOSED = {"protocol_whitelist": "none"}
"""A file that is a playlist in truth would have other files and addresses opened."""
_CUT_S = 1.0
"""Seconds at the end of a video whose length is known by time alone that may be missing unsaid."""
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


def is_video(name: str | PurePath) -> bool:
    """By its name: an ending of videos, and not hidden."""
    path = PurePath(name)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def pyav() -> Any:
    """The package that reads and writes videos.

    Raises:
        FocusDetrError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise FocusDetrError("videos need the package av: pip install 'focus-detr[video]'") from error
    return av


def video_frames(name: str, file: ImageSource, options: SourceOptions) -> Iterator[NamedImage | BadImage]:
    """The frames looked at of a video file, each with its pixels; a `BadImage` where some cannot be had.

    Decoding goes on behind what is damaged. Frames come upright, as the file says they are to be turned.
    """
    try:
        av = pyav()
    except FocusDetrError as error:
        yield Nothing(name, str(error))
        return
    try:
        stream = open(file, "rb") if isinstance(file, str | os.PathLike) else file
    except OSError as error:
        yield BadImage(name, f"cannot be opened ({error.strerror})")
        return
    with stream:
        if not stream.read(1):
            yield BadImage(name, "is empty; copy it again from its source, or remove it")
            return
        stream.seek(0)
        try:
            container = av.open(stream, options=CLOSED, metadata_errors="replace")
        except Exception as error:  # of FFmpeg, or of what it read from
            said = (
                f"cannot be read as a video ({reason_of(error)}); recordings that were cut off end like this"
            )
            yield BadImage(name, said)
            return
        with closing(container):
            if not container.streams.video:
                yield BadImage(name, "holds no video")
            else:
                yield from _decoded(name, container, options)


def expected_frames(file: ImageSource, options: SourceOptions) -> int | None:
    """How many frames of a video file will be looked at, by what its header says."""
    try:
        with (
            open(file, "rb") if isinstance(file, str | os.PathLike) else file as stream,
            closing(pyav().open(stream, options=CLOSED)) as container,
        ):
            video = container.streams.video[0]
            if not video.frames or not video.average_rate:
                return None
            rate = float(video.average_rate)
            return round(video.frames / rate * (options.rate_of(rate) or rate))
    except Exception:  # a bar without an end is all that comes of it; reading says what is wrong
        return None


@dataclass
class _Clock:
    """The index and the time of frames, which may have gaps and lack times."""

    rate: float | None
    next_index: int = 0
    start: float | None = None
    gap: bool = False
    last: float = 0.0
    longest: float = 0.0

    def tick(self, time: float | None) -> tuple[int, float]:
        if time is not None and self.start is None:
            self.start = time - (self.next_index / self.rate if self.rate else 0.0)
        seconds = None if time is None or self.start is None else time - self.start
        if self.gap and seconds is not None and self.rate:
            # Nobody says how many frames are lost; times do.
            self.next_index = max(self.next_index, round(seconds * self.rate))
        self.gap = False
        index, self.next_index = self.next_index, self.next_index + 1
        if seconds is None:
            seconds = index / self.rate if self.rate else 0.0
        self.longest, self.last = max(self.longest, seconds - self.last), seconds
        return index, round(seconds, 6)


def _decoded(name: str, container: Any, options: SourceOptions) -> Iterator[NamedImage | BadImage]:
    video = container.streams.video[0]
    average = float(video.average_rate) if video.average_rate else None
    clock, chosen, rate = _Clock(average), options.chooser(), options.rate_of(average)
    packets, said, distorted = 0, False, False
    for packet in _packets(container, video):
        if isinstance(packet, Exception):
            yield BadImage(f"{name}#frame={clock.next_index}", f"the video ends here ({reason_of(packet)})")
            return
        packets += bool(packet.size)
        try:
            frames = packet.decode()
        except Exception as error:
            if not said:
                reason = (
                    f"the video is damaged here ({reason_of(error)}); what can be decoded goes on behind it"
                )
                yield BadImage(f"{name}#frame={clock.next_index}", reason)
            clock.gap, said = True, True
            clock.next_index += 1
            continue
        for frame in frames:
            index, seconds = clock.tick(frame.time)
            said = False
            if frame.is_corrupt and not distorted:
                distorted = True
                logger.warning("%s#frame=%d: this frame, perhaps others, is damaged in part", name, index)
            if chosen(index, seconds):
                place = Frame(name, index, seconds, rate)
                yield NamedImage(place.name, partial(upright, frame, place.name, options), frame=place)
    missing = _missing(container, video, packets, clock)
    if missing:
        yield BadImage(f"{name}#frame={clock.next_index}", missing)
    elif not clock.next_index:
        yield BadImage(name, "holds no frame that can be read; recordings that were cut off end like this")


def _packets(container: Any, video: Any) -> Iterator[Any]:
    """The packets of a stream, the empty one that ends it included; at last the error, if one ends it."""
    try:
        yield from container.demux(video)
    except Exception as error:
        yield error


def _missing(container: Any, video: Any, packets: int, clock: _Clock) -> str | None:
    """What a file lacks at its end of what its header promises."""
    if video.frames > packets:
        return f"the video is cut short: {packets} of {video.frames} frames are there"
    written = video.metadata.get("DURATION") if not video.frames else None  # as Matroska has it, by stream
    if written is None:
        return None
    try:
        hours, minutes, seconds = map(float, written.split(":"))
    except ValueError:
        return None
    promised = hours * 3600 + minutes * 60 + seconds
    if clock.last + clock.longest > promised - _CUT_S:
        return None
    return f"the video is cut short: {clock.last:.1f} of {promised:.1f} seconds are there"


def upright(frame: Any, name: str, options: SourceOptions) -> Image.Image:
    """The RGB picture of PyAV's ``frame``, turned as it says."""
    check_pixels((frame.width, frame.height), options.max_pixels, name)
    image: Image.Image = frame.to_image()
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return image if turn is None else image.transpose(turn)


def reason_of(error: Exception) -> str:
    """What FFmpeg says, on a line."""
    return printable(str(getattr(error, "strerror", None) or error), longest=200)

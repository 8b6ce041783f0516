"""Annotated videos: the frames looked at, with their objects drawn, at the rate they were looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from focus_detr.data.naming import FreeNames
from focus_detr.errors import FocusDetrError
from focus_detr.folders import writable_folder
from focus_detr.inference.folder_writer import kept_image
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.sources.video import pyav
from focus_detr.inference.writers import Result, ResultWriter
from focus_detr.pictures.boxes import draw_detections
from focus_detr.structures.frame import Frame

CODECS = ("libx264", "libopenh264", "mpeg4")
"""H.264, which everything plays, by an encoder that is there; or else MPEG-4 Part 2, which FFmpeg has."""

_FORMS = {"libx264": "H.264", "libopenh264": "H.264", "mpeg4": "MPEG-4 Part 2"}
_CLOCK = Fraction(1, 1000)  # of frames that come when they come
_QUALITY = {
    # Without x264's "mbtree", which reads memory that it has not written, so that the same frames became
    # other bytes in one run of three: a run that was gone on with is as one left alone.
    "libx264": {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"},
    "mpeg4": {"qscale": "3"},
}


class VideoWriter(ResultWriter):
    """`<video>.mp4` for each video, without sound; `count` is the number of frames, `said` what was written.

    Frames have the times they have in the source, at its rate, or that of the frames looked at. Results that
    are no frames, or did not keep their image, are left out. A video is there once its last frame is written.

    Args:
        folder: where videos go.
        codec: FFmpeg's name of an encoder; the first one of `CODECS` that there is, when not given.
        draw: makes the picture of a result, of one size for all of a video; by default its image with its
            objects.

    Raises:
        FocusDetrError: PyAV is not installed, or has no such encoder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        codec: str | None = None,
        draw: Callable[[Detections], Image.Image] | None = None,
    ) -> None:
        super().__init__()
        self._draw = draw or (lambda result: draw_detections(kept_image(result), result, legend=False))
        self.folder, self._codec = writable_folder(folder), codec or best_codec()
        self.said: list[str] = []
        self._names = FreeNames()
        self._video: str | None = None
        self._film: _Film | None = None

    def add(self, result: Result) -> None:
        if isinstance(result, BadImage) or result.frame is None or result.image is None:
            return
        if self._film is None or result.frame.video != self._video:
            self._finish()
            self.folder.mkdir(parents=True, exist_ok=True)
            name = self._names.of_image(result.frame.video)
            self._film = _Film(self.folder / f"{name}.mp4", self._codec, result.frame)
            self._video = result.frame.video
        self._film.add(self._draw(result), result.frame)
        self.count += 1

    def __exit__(self, *error: object) -> None:
        self._finish()

    def _finish(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            self.said.append(film.finish())


def best_codec() -> str:
    """The encoder of `CODECS` that PyAV has."""
    av = pyav()
    for name in CODECS:
        if _has(av, name):
            return name
    raise FocusDetrError(
        f"videos: PyAV here has none of the encoders {', '.join(CODECS)}; install its own wheel"
    )


def _has(av: Any, codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except av.error.FFmpegError:
        return False
    return True


class _Film:
    """One video that is being written, beside its place until it is whole."""

    def __init__(self, file: Path, codec: str, first: Frame) -> None:
        self._av, self._file = pyav(), file
        self._writing = file.with_name(f".{file.name}.part")
        self._frames, self._last, self._start = 0, -1, first.seconds
        rate = None if first.live else first.rate
        self._rate = None if rate is None else Fraction(rate).limit_denominator(1001)
        self._clock = _CLOCK if self._rate is None else 1 / self._rate
        self._container = self._av.open(
            str(self._writing), "w", format="mp4", options={"movflags": "+faststart"}
        )
        try:
            self._stream = self._container.add_stream(codec, rate=self._rate or Fraction(25))
        except Exception as error:
            self._container.close()
            self._writing.unlink(missing_ok=True)
            raise FocusDetrError(f"videos: PyAV here has no encoder {codec!r} ({error})") from error
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _QUALITY.get(codec, {})
        self._stream.codec_context.time_base = self._clock
        self._size: tuple[int, int] | None = None

    def add(self, picture: Image.Image, place: Frame) -> None:
        if self._size is None:
            self._size = picture.size
            # Colors are stored for two by two pixels: sides are even.
            self._stream.width, self._stream.height = (side + side % 2 for side in picture.size)
        elif picture.size != self._size:
            picture = picture.resize(self._size)
        frame = self._av.VideoFrame.from_image(_padded(picture, (self._stream.width, self._stream.height)))
        self._last = max(self._last + 1, round((place.seconds - self._start) / self._clock))
        frame.pts, frame.time_base = self._last, self._clock
        self._container.mux(self._stream.encode(frame))
        self._frames += 1

    def finish(self) -> str:
        """Put the video in its place; says what it is."""
        try:
            with closing(self._container):
                self._container.mux(self._stream.encode())
            os.replace(self._writing, self._file)
        finally:
            self._writing.unlink(missing_ok=True)
        codec = self._stream.codec
        form = _FORMS.get(codec.name, codec.long_name)
        rate = "" if self._rate is None else f", {float(self._rate):g} frames a second"
        return f"{self._file.name}: {self._frames} frames, {codec.name} ({form}){rate}"


def _padded(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    page = Image.new("RGB", size)
    page.paste(picture)
    return page

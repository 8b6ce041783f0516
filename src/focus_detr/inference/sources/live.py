"""Cameras and streams: the newest frame wins, whoever is slow, and a lost connection is made again."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

from focus_detr.errors import FocusDetrError
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.download import Deadline, Response, answer
from focus_detr.inference.sources.named import NamedImage, Nothing
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.inference.sources.video import CLOSED, pyav, reason_of, upright
from focus_detr.structures.frame import Frame

logger = logging.getLogger(__name__)

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp")
_PLAYLISTS = (".m3u8", ".m3u")
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,rtmps,srt,data"
"""Those that a stream may lead on to; none of them reads files of this machine."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_MOST_BAD = 100
"""Pieces in a row that may be undecodable before a stream is taken for lost."""
_LEAVE_S = 2.0
"""Seconds that a thread gets to end, which may wait for a camera."""


@dataclass(frozen=True)
class Connection:
    """PyAV's container of a stream that is open, and what is to be told when a packet of it has come."""

    container: Any
    came: Callable[[], None] = lambda: None


Opener = Callable[[], AbstractContextManager[Connection]]
"""Opens a stream, as often as it takes."""


def is_camera(name: str) -> bool:
    """`camera:0`, or the device of a camera."""
    return name.startswith("camera:") or re.fullmatch(r"/dev/video\d+", name) is not None


def is_playlist(url: str) -> bool:
    """Whether an address is that of a stream in pieces (HLS), by its name."""
    try:
        return urlsplit(url).path.lower().endswith(_PLAYLISTS)
    except ValueError:
        return False


def camera(name: str, options: SourceOptions) -> Opener:
    """Opens the camera of this name: `camera:0`, `/dev/video0`; by its own name on Windows."""
    which = name.removeprefix("camera:")
    form, place = "v4l2", f"/dev/video{which}" if which.isdigit() else which
    settings: dict[str, str] = {}
    if sys.platform == "darwin":
        form, place, settings = "avfoundation", which, {"framerate": "30"}
    elif sys.platform == "win32":
        form, place = "dshow", f"video={which}"
    return partial(_opened, place, options, form, settings)


def network_stream(url: str, options: SourceOptions) -> Opener:
    """Opens a stream that FFmpeg reaches by itself."""
    settings = {"protocol_whitelist": _PROTOCOLS}
    if url.lower().startswith("rtsp"):
        settings["rtsp_transport"] = "tcp"  # by UDP, what is lost on the way makes pictures of mud
    return partial(_opened, url, options, None, settings)


class HttpStream:
    """Opens a stream of a web server, redirected as downloads are.

    The first answer, whose headers said that it is a stream, is its first connection: many a camera has only
    one to give. It is open while this is in a `with`: its `response`, and whether that is `multipart`, JPEG
    upon JPEG.
    """

    def __init__(self, url: str, options: SourceOptions) -> None:
        self._url, self._options = url, options
        self._first = ExitStack()
        self._hung_up = False

    def __enter__(self) -> Self:
        self._deadline = Deadline(self._options.timeout)
        response = answer(self._url, self._deadline, self._options.private_redirects)
        self.response: Response = self._first.enter_context(response)
        self.multipart = self.response.headers.get_content_type() == "multipart/x-mixed-replace"
        self._connections, self._current = 0, self.response
        return self

    def __exit__(self, *error: Any) -> bool:
        return bool(self._first.__exit__(*error))  # which says what went wrong in words

    def hang_up(self) -> None:
        """End the connection that there is, whoever waits for what it may still give, or the next to come."""
        self._hung_up = True
        self._current.hang_up()

    @contextmanager
    def opened(self) -> Iterator[Connection]:
        """A connection; the first is that of the answer."""
        form = "mpjpeg" if self.multipart else None
        with ExitStack() as connection:
            response, self._connections = self.response, self._connections + 1
            if self._connections > 1:
                self._first.close()
                self._deadline.put_off()
                again = answer(self._url, self._deadline, self._options.private_redirects)
                response = connection.enter_context(again)
            self._current = response
            if self._hung_up:  # while this one was being made
                response.hang_up()
            pieces = _Piecewise(response, self._deadline, self._options.max_megabytes)
            container = pyav().open(pieces, format=form, options=CLOSED)
            yield Connection(connection.enter_context(closing(container)), pieces.came)


def live_frames(
    name: str, opener: Opener, options: SourceOptions, hang_up: Callable[[], None] = lambda: None
) -> Iterator[NamedImage | BadImage]:
    """The frames of a camera or stream, each the newest when it is asked for; those between are let go.

    Ends when a lost connection is not back after `reconnects` attempts, further and further apart, with a
    `BadImage` that says so. What cannot be opened in the first place is not tried again. ``hang_up`` ends a
    wait for the next frame, where there is a way to.
    """
    capture = _Capture(name, opener, options)
    try:
        while (found := capture.newest()) is not None:
            yield found
            if isinstance(found, BadImage):
                return
    finally:
        capture.stop(hang_up)


class _Capture:
    """A thread that takes frames as they come, and keeps the last one until it is asked for."""

    def __init__(self, name: str, opener: Opener, options: SourceOptions) -> None:
        self._name, self._opener, self._options = name, opener, options
        self._chosen = options.chooser()
        self._rate: float | None = None
        self._index, self._start = 0, time.monotonic()
        self._waiting: NamedImage | None = None
        self._end: BadImage | None = None
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)
        self._thread.start()

    def newest(self) -> NamedImage | BadImage | None:
        """The last frame, once one has come that was not given yet; the reason, once there will be none."""
        with self._changed:
            # In turns: a wait without an end would keep Ctrl-C from being heard on Windows.
            while self._waiting is None and self._end is None and not self._stopped.is_set():
                self._changed.wait(0.5)
            found, self._waiting = self._waiting, None
            return self._end if found is None else found

    def stop(self, hang_up: Callable[[], None]) -> None:
        self._stopped.set()
        hang_up()
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        attempts, reason = 0, ""
        while not self._stopped.is_set():
            try:
                with self._opener() as connection:
                    for frame in _frames(connection):
                        if self._stopped.is_set():
                            return
                        attempts = 0
                        self._take(frame, connection.container)
                reason = "it ended"
            except Exception as error:  # of FFmpeg, of the network, of a camera that was pulled out
                reason = _said(error, self._options).removeprefix(f"{self._name}: ")
            if self._stopped.is_set():
                return  # hung up by ourselves
            if self._index == 0:
                self._give(Nothing(self._name, f"cannot be opened ({reason})"))
                return
            attempts += 1
            if attempts > self._options.reconnects:
                place = f"{self._name}#frame={self._index}"
                self._give(BadImage(place, f"lost ({reason}), and not back after {attempts - 1} attempts"))
                return
            wait = min(_FIRST_WAIT_S * 2 ** (attempts - 1), _LONGEST_WAIT_S)
            logger.warning("%s: lost (%s); attempt %d in %g s", self._name, reason, attempts, wait)
            self._stopped.wait(wait)

    def _take(self, frame: Any, container: Any) -> None:
        seconds = 0.0 if self._index == 0 else time.monotonic() - self._start
        if self._index == 0:
            self._start = time.monotonic()
            average = container.streams.video[0].average_rate
            self._rate = self._options.rate_of(float(average) if average else None)
        index, self._index = self._index, self._index + 1
        if self._chosen(index, seconds):
            place = Frame(self._name, index, round(seconds, 6), self._rate, live=True)
            self._give(
                NamedImage(place.name, partial(upright, frame, place.name, self._options), frame=place)
            )

    def _give(self, found: NamedImage | BadImage) -> None:
        with self._changed:
            if isinstance(found, BadImage):
                self._end = found  # behind the last frame, which may wait still
            else:
                self._waiting = found
            self._changed.notify()


def _frames(connection: Connection) -> Iterator[Any]:
    """What can be decoded: one bad piece is no reason to begin again."""
    bad = 0
    for packet in connection.container.demux(video=0):
        connection.came()
        try:
            frames = packet.decode()
        except pyav().error.FFmpegError:
            bad += 1
            if bad > _MOST_BAD:
                raise
            continue
        for frame in frames:
            bad = 0
            yield frame


class _Piecewise:
    """What PyAV reads from: an answer without an end, each piece of which comes in time, and comes to one."""

    def __init__(self, response: Any, deadline: Deadline, max_megabytes: float) -> None:
        self._response, self._deadline, self._most = response, deadline, max_megabytes
        self._read = 0

    def read(self, size: int) -> bytes:
        most = self._most * 2**20
        if self._read > most:  # FFmpeg asks again, and would have each error but one printed
            return b""
        self._deadline.put_off()
        data: bytes = self._response.read1(size)
        self._read += len(data)
        if self._read > most:  # FFmpeg holds all of a picture that does not end
            raise FocusDetrError(f"{self._most:g} MB, the limit, gave no whole picture")
        return data

    def came(self) -> None:
        """What was read has become a packet."""
        self._read = 0


@contextmanager
def _opened(
    place: str, options: SourceOptions, form: str | None, settings: dict[str, str]
) -> Iterator[Connection]:
    with closing(pyav().open(place, format=form, options=settings, timeout=options.timeout)) as container:
        if not container.streams.video:
            raise FocusDetrError(f"{place}: holds no video")
        yield Connection(container)


def _said(error: Exception, options: SourceOptions) -> str:
    if isinstance(error, pyav().error.ExitError):  # FFmpeg is told to end when time is up
        return f"nothing came within {options.timeout:g} s"
    if isinstance(error, pyav().error.ProtocolNotFoundError):
        return "the FFmpeg that PyAV came with does not know its protocol"
    return str(error) if isinstance(error, FocusDetrError) else reason_of(error)

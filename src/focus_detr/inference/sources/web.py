"""What an address of the web gives: a picture, a file of many, or a stream without an end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from focus_detr.data.formats.searching import is_image_file
from focus_detr.errors import FocusDetrError
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.containers import images_in, single_image
from focus_detr.inference.sources.download import content_of, download, without_password
from focus_detr.inference.sources.live import HttpStream, is_playlist, live_frames, network_stream
from focus_detr.inference.sources.named import NamedImage, Series
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.inference.sources.pages import may_hold_many
from focus_detr.inference.sources.video import is_video


def images_at(url: str, options: SourceOptions) -> NamedImage | Series:
    """The pictures at an http or https address.

    By its name it is a picture, downloaded when it is read, or a playlist; what else it is, its server's
    answer says when its turn comes: a stream, where that is JPEG upon JPEG or a video without a length.
    """
    shown, name = without_password(url), _file_name(url)
    if is_playlist(url):
        return Series(shown, lambda: live_frames(shown, network_stream(url, options), options), live=True)
    if is_image_file(PurePath(name)) and not may_hold_many(name):
        return single_image(shown, partial(_downloaded, url, options), options)
    return Series(shown, partial(_looked_up, url, shown, name, options), lambda: 1)


def _looked_up(url: str, shown: str, name: str, options: SourceOptions) -> Iterator[NamedImage | BadImage]:
    try:
        with HttpStream(url, options) as stream:
            response = stream.response
            kind = response.headers.get_content_type()
            if stream.multipart or (
                kind.startswith("video/") and response.length is None and not is_video(name)
            ):
                yield from live_frames(shown, stream.opened, options, stream.hang_up)
                return
            content = content_of(shown, response, options.max_megabytes)
    except FocusDetrError as error:
        yield NamedImage(shown, partial(_raise, error))
        return
    if kind.startswith("video/") and not is_video(name):
        name = f"{name or 'video'}.mp4"  # its ending says no more than that it is one
    entry = images_in(shown, lambda: io.BytesIO(content), options, name)
    yield from entry.images() if isinstance(entry, Series) else [entry]


def _file_name(url: str) -> str:
    try:
        return unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        return ""


def _downloaded(url: str, options: SourceOptions) -> io.BytesIO:
    content = download(
        url,
        timeout=options.timeout,
        max_megabytes=options.max_megabytes,
        private_redirects=options.private_redirects,
    )
    return io.BytesIO(content)


def _raise(error: Exception) -> Any:
    raise error

"""What one file holds: a picture, or a series of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath

from focus_detr.data.formats.searching import is_image_file
from focus_detr.images.reading import ImageSource, read_image
from focus_detr.images.reduced import read_for
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.archives import archive_members, expected_members, is_archive
from focus_detr.inference.sources.named import NamedImage, Nothing, Series
from focus_detr.inference.sources.options import SourceOptions
from focus_detr.inference.sources.pages import may_hold_many, page_images
from focus_detr.inference.sources.video import expected_frames, is_video, video_frames

_UNREAD = (".heic", ".heif")
"""Pictures of phones, which Pillow does not read by itself: said, rather than left out without a word."""


def images_in(
    name: str, source: Callable[[], ImageSource], options: SourceOptions, file_name: str | None = None
) -> NamedImage | Series:
    """The pictures of a file, which ``source`` gives: its path, or its content in memory.

    ``file_name``, or ``name`` where that is one, says by its ending what the file is.
    """
    kind = name if file_name is None else file_name
    if is_archive(kind):
        return Series(
            name,
            partial(_of_members, name, kind, source, options),
            partial(expected_members, kind, source, is_taken),
        )
    if is_video(kind):
        return Series(
            name,
            lambda: video_frames(name, source(), options),
            lambda: expected_frames(source(), options),
        )
    single = single_image(name, source, options)
    if may_hold_many(kind):
        return Series(name, partial(page_images, single, kind, source, options), lambda: 1)
    return single


def single_image(name: str, source: Callable[[], ImageSource], options: SourceOptions) -> NamedImage:
    """The picture of a file, or of what is in its place once ``source`` has fetched it."""
    return NamedImage(
        name,
        lambda: read_image(source(), options.max_pixels),
        lambda rule: read_for(source(), rule, options.max_pixels),
    )


def _of_members(
    name: str, kind: str, source: Callable[[], ImageSource], options: SourceOptions
) -> Iterator[NamedImage | BadImage]:
    """Archives in archives stay closed: each would have an allowance of its own."""
    empty = True
    for member in archive_members(name, kind, source, options, is_taken):
        empty = False
        if isinstance(member, BadImage):
            yield member
            continue
        entry = images_in(member.name, member.read, options)
        yield from entry.images() if isinstance(entry, Series) else [entry]
    if empty:
        yield Nothing(name, "the archive holds no image and no video")


def is_taken(path: PurePath) -> bool:
    """What a search of a folder or archive takes; archives often lie beside what was unpacked from them."""
    unread = path.suffix.lower() in _UNREAD and not path.name.startswith(".")
    return is_image_file(path) or is_video(path) or unread

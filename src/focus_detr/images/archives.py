"""Pictures inside tar files, by paths that say where: ``train-000.tar/@1536+20480/0001.jpg``.

A path says all that reading needs, in any process: the archive is opened, and nothing else of it is read.
"""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path

from focus_detr.errors import FocusDetrError

_PLACE = re.compile(r"@(\d{1,18})\+(\d{1,18})")
_LARGEST = 1 << 30  # bytes of one picture's file


def member_path(archive: Path, offset: int, length: int, name: str) -> Path:
    """The path of ``length`` bytes of an archive that begin at ``offset``."""
    return archive / f"@{offset}+{length}" / Path(name).name


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a file, or such a place in an archive."""
    place = _place(path)
    if place is None:
        return os.path.isfile(path)
    archive, offset, length = place
    return os.path.isfile(archive) and os.path.getsize(archive) >= offset + length


def open_member(path: str | os.PathLike[str]) -> io.BytesIO | None:
    """The bytes that a path of `member_path` names; None for any other path.

    Raises:
        OSError: the archive cannot be read.
        FocusDetrError: it is cut short, or the picture too large for one.
    """
    place = _place(path)
    if place is None:
        return None
    archive, offset, length = place
    if not stat.S_ISREG(os.stat(archive).st_mode):
        raise FocusDetrError(f"{archive}: is no regular file, and no archive to read pictures from.")
    if length > _LARGEST:
        raise FocusDetrError(f"{path}: has {length} bytes, more than any picture ({_LARGEST}).")
    with open(archive, "rb") as stream:
        stream.seek(offset)
        content = stream.read(length)
    if len(content) < length:
        raise FocusDetrError(f"{path}: the archive ends before it does. Copy {archive.name} again.")
    return io.BytesIO(content)


def _place(path: str | os.PathLike[str]) -> tuple[Path, int, int] | None:
    parent = Path(path).parent
    found = _PLACE.fullmatch(parent.name)
    return (parent.parent, int(found[1]), int(found[2])) if found else None

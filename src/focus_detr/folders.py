"""Paths as people write them, and folders to write to, looked at before the work whose results they hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from focus_detr.errors import FocusDetrError


def from_home(path: Any) -> Any:
    """A path that may begin with ``~``, which a shell expands in some places only; all else as it is."""
    if isinstance(path, str | Path) and str(path).startswith("~"):
        return type(path)(os.path.expanduser(path))
    return path


def writable_folder(path: str | os.PathLike[str], option: str = "output") -> Path:
    """``path``, which is a folder that can be written to, or can become one; it is not made here.

    ``~`` at its beginning is the home folder.

    Raises:
        FocusDetrError: it is a file, lies inside a file, or its place cannot be written to.
    """
    folder = from_home(Path(path))
    for place in (folder, *folder.parents):
        if not os.path.lexists(place):
            continue
        if not place.is_dir():
            inside = "" if place == folder else f" lies in {place}, which"
            raise FocusDetrError(f"{option} {folder}:{inside} is not a folder; give another place")
        if not os.access(place, os.W_OK | os.X_OK):
            raise FocusDetrError(f"{option} {folder}: {place} cannot be written to; give another place")
        break
    return folder


def unused_folder(path: str | os.PathLike[str], option: str = "output") -> Path:
    """``path``, which is a `writable_folder` with nothing in it, or none yet.

    Raises:
        FocusDetrError: it cannot be written to, or holds something that is not to be mixed or lost.
    """
    folder = writable_folder(path, option)
    if folder.is_dir() and any(folder.iterdir()):
        raise FocusDetrError(
            f"{option} {folder}: holds files, perhaps corrected since they were written; give another place, "
            "or move that folder away"
        )
    return folder


@contextmanager
def whole_file(file: Path) -> Iterator[IO[bytes]]:
    """A stream to write ``file`` by, which is there once all is written; a link in its place is replaced."""
    writing = file.with_name(f".{file.name}.part")
    try:
        with open(writing, "wb") as stream:
            yield stream
        os.replace(writing, file)
    finally:
        writing.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Write a text file in UTF-8, which is there whole or not at all."""
    with whole_file(file) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write files into, which go to ``folder`` once all are written; others stay there."""
    folder.mkdir(parents=True, exist_ok=True)
    writing = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder))
    try:
        yield writing
        for file in sorted(writing.iterdir()):
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(writing, ignore_errors=True)

"""Folders to write to, looked at before the work whose results they are to hold."""

from __future__ import annotations

import os
from pathlib import Path

from focus_detr.errors import FocusDetrError


def writable_folder(path: str | os.PathLike[str], option: str = "output") -> Path:
    """``path``, which is a folder that can be written to, or can become one; it is not made here.

    Raises:
        FocusDetrError: it is a file, lies inside a file, or its place cannot be written to.
    """
    folder = Path(path)
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

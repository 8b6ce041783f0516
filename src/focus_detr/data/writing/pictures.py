"""Pictures of a written data set: copied as they are, each with a name of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from focus_detr.data.formats.searching import IMAGE_SUFFIXES
from focus_detr.data.naming import FreeNames
from focus_detr.data.writing.changes import Changes
from focus_detr.errors import FocusDetrError
from focus_detr.images.archives import open_member
from focus_detr.images.reading import decoding

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "PPM": ".ppm", "TIFF": ".tif"}


class PictureCopies:
    """Copies pictures into a folder; stems are given once, whatever the ending and the case of letters.

    Args:
        names: of more folders, whose names must not clash either (labels by name alone).
        dots: whether stems keep their dots.
    """

    def __init__(self, changes: Changes, names: FreeNames | None = None, dots: bool = True) -> None:
        self._changes = changes
        self._names = FreeNames(dots=dots) if names is None else names

    def copy(self, path: Path, folder: Path) -> Path:
        """The copy of a picture in ``folder``."""
        name = self._names.of_image(str(path).replace("#", "_")) + _ending(path)
        if name != path.name:
            self._changes.renamed[str(path)] = f"{folder.name}/{name}"
        target = folder / name
        member = open_member(path)
        if member is None:
            shutil.copyfile(path, target)
        else:
            target.write_bytes(member.getbuffer())
        return target


def _ending(path: Path) -> str:
    """Its own where readers know it for a picture's, else that of its format."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path.suffix
    with decoding(path) as image:
        ending = _ENDINGS.get(image.format or "", f".{(image.format or '').lower()}")
    if ending not in IMAGE_SUFFIXES:
        raise FocusDetrError(f"{path}: no data set holds pictures of this format; save it as PNG or JPEG")
    return ending

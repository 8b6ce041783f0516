"""Names for the files of results: of every image one of its own, that every file system takes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from focus_detr.printable import unicode_name

_PLACE = re.compile(r"#(?:frame|page)=[0-9]+\Z")
_LONGEST = 200
"""Bytes; file systems take 255 with ending and number."""


class FreeNames:
    """Names (without ending) after images, each given once in a run: `a`, then `a-2` for another `a`.

    Args:
        endings: what the files of one image end with; none of them is ever that of another image.
        dots: whether names keep their dots, behind the last of which some tools look for an ending.
    """

    def __init__(self, endings: tuple[str, ...] = ("",), dots: bool = True) -> None:
        self._endings, self._dots = endings, dots
        self._taken: set[str] = set()
        self._last: Counter[str] = Counter()

    def of_image(self, path: str) -> str:
        """A name after an image's file or URL, and its place in there: `clip-frame12`, `scan-page2`."""
        place = match[0] if (match := _PLACE.search(path)) else ""
        path = path.removesuffix(place)
        # Of a URL, without its query, which urlsplit would refuse to find in some.
        stem = Path(re.split("[?#]", path)[0] if "://" in path else path).stem
        stem = stem if self._dots else stem.replace(".", "_")
        return self.of(stem + place.replace("#", "-").replace("=", ""), "image")

    def of(self, text: str, otherwise: str) -> str:
        """A name after ``text``, or ``otherwise`` where nothing of it can stand in one."""
        stem = portable(text) or otherwise
        name = stem
        while self._taken & (files := self._files(name)):
            self._last[stem] += 1
            name = f"{stem}-{self._last[stem] + 1}"
        self._taken |= files
        return name

    def _files(self, name: str) -> set[str]:
        # Folded: macOS and Windows take A.jpg and a.jpg for one file.
        return {f"{name}{end}".casefold() for end in self._endings}


def portable(text: str) -> str:
    """``text`` as every file system takes it and no search hides it, with room for a number and an ending."""
    plain = "".join(char if char.isprintable() else "_" for char in unicode_name(text))
    name = re.sub(r'[<>:"/\\|?*]', "_", plain).lstrip(". ")
    while len(name.encode()) > _LONGEST:
        name = name[: -max(1, (len(name.encode()) - _LONGEST) // 4)]
    return name.rstrip(". ")

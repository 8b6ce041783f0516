"""The pictures that `focus-detr predict` writes: objects drawn, and where the model looked."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from focus_detr.errors import FocusDetrError
from focus_detr.printable import unicode_name

if TYPE_CHECKING:
    from PIL import Image

    from focus_detr.inference import Detections, Predictor

_LONGEST_STEM = 200
"""Bytes; file systems take 255 with ending and number."""


def keep_sources(sources: list[str], output: Path) -> None:
    """Refuse an output folder that holds a source, which its annotated picture could replace.

    Raises:
        FocusDetrError: a picture to look at lies in ``output``.
    """
    from focus_detr.inference.results import BadImage
    from focus_detr.inference.sources.files import expand_sources

    if not output.is_dir():
        return
    place = output.resolve()
    for item in expand_sources(sources):
        if not isinstance(item, BadImage) and "://" not in item.name:
            if Path(item.name).resolve().parent == place:
                raise FocusDetrError(
                    f"--output {output}: {item.name} is one of the pictures to look at, and drawing there "
                    "could replace it; give another folder"
                )


class Pictures:
    """Writes `<image>.jpg` and `<image>.heatmap.jpg` into a folder; images of one name get numbers."""

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        boxes: bool,
        heatmap: bool,
        budget: float | None = None,
    ) -> None:
        self.folder, self.predictor, self.boxes, self.heatmap = folder, predictor, boxes, heatmap
        self.budget = budget
        self._taken: set[str] = set()
        self._last: Counter[str] = Counter()

    def write(self, detections: Detections) -> None:
        """The pictures of one image; its detections hold it (`keep_images`)."""
        if not (self.boxes or self.heatmap) or detections.image is None:
            return
        name = self._free_name(detections.path)
        if self.boxes:
            from focus_detr.pictures.boxes import draw_detections

            _save(draw_detections(detections.image, detections), self.folder / f"{name}.jpg")
        if self.heatmap:
            from focus_detr.pictures.heatmap import draw_heatmap

            page = draw_heatmap(self.predictor, detections.image, self.budget)
            _save(page, self.folder / f"{name}.heatmap.jpg")

    def _free_name(self, path: str) -> str:
        """A name for an image's pictures that no other image of this run was given."""
        # Of a URL, without its query, which urlsplit would refuse to find in some.
        stem = _portable(Path(re.split("[?#]", path)[0] if "://" in path else path).stem)
        name = stem
        while self._taken & (files := self._files(name)):
            self._last[stem] += 1
            name = f"{stem}-{self._last[stem] + 1}"
        self._taken |= files
        return name

    def _files(self, name: str) -> set[str]:
        # Folded: macOS and Windows take A.jpg and a.jpg for one file. Both names are kept free, or the heat
        # map of `a` would be drawn over the objects of `a.heatmap`.
        return {f"{name}{end}".casefold() for end in (".jpg", ".heatmap.jpg")}


def _portable(stem: str) -> str:
    """``stem`` as every file system takes it, with room for a number and an ending."""
    text = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", unicode_name(stem)).rstrip(". ")
    while len(text.encode()) > _LONGEST_STEM:
        text = text[: -max(1, (len(text.encode()) - _LONGEST_STEM) // 4)]
    return text or "image"


def _save(picture: Image.Image, file: Path) -> None:
    """Write a picture whole or not at all, and never through a link to elsewhere."""
    writing = file.with_name(f".{file.name}.part")
    try:
        with open(writing, "wb") as stream:
            picture.save(stream, "JPEG", quality=92)
        os.replace(writing, file)
    finally:
        writing.unlink(missing_ok=True)

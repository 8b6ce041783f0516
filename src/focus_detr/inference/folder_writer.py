"""Results as a folder of many files: a name for each image, and every file whole or not there."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from focus_detr.data.formats.searching import is_image_file
from focus_detr.data.naming import FreeNames
from focus_detr.errors import FocusDetrError
from focus_detr.folders import unused_folder, whole_file, writable_folder
from focus_detr.images.reading import image_header
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.writers import Result, ResultWriter
from focus_detr.structures.instances import clip_to


class FolderWriter(ResultWriter):
    """A folder of results; `count` is the number of objects. Images that could not be read are left out.

    The folder is new or empty: what an earlier run left there, perhaps corrected by hand since, stays as it
    is, and `FocusDetrError` says so. With `resume`, the folder is that of a run which goes on now; what it
    has of `earlier` results stays as it is, too.
    """

    def __init__(self, folder: str | os.PathLike[str], *, resume: bool = False) -> None:
        super().__init__()
        self.folder = writable_folder(folder) if resume else unused_folder(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._image_names = FreeNames(dots=False)
        self._class_names: Sequence[str] | None = None

    def add(self, result: Result) -> None:
        if isinstance(result, BadImage):
            return
        if self._class_names is None:
            self._begin(result.names)
            self._class_names = tuple(result.names)
        elif self._class_names != tuple(result.names):
            raise FocusDetrError(
                f"{result.path}: its classes are other than those of the images before; give results of "
                "another model a folder of their own"
            )
        visible, name = _inside(result), self._image_names.of_image(result.path)
        if not result.earlier:
            self._write(name, visible)
        self._list(name)
        self.count += len(visible)

    def __exit__(self, *error: object) -> None:
        """Every file is closed already."""

    @abstractmethod
    def _begin(self, class_names: Sequence[str]) -> None:
        """Make what stands beside the images' own files."""

    @abstractmethod
    def _write(self, name: str, result: Detections) -> None:
        """Write the files of an image, whose objects lie in it and have an area."""

    def _list(self, name: str) -> None:
        """Add an image, whose files are there, to those that the folder says it holds."""


def _inside(result: Detections) -> Detections:
    """The objects with their boxes clipped to the image, float64; those left empty are gone."""
    boxes, kept = clip_to(result.boxes_xyxy.astype(np.float64), result.image_size[::-1])
    return replace(result, instances=replace(result.instances[kept], boxes_xyxy=boxes[kept]))


def write_picture(result: Detections, folder: Path, name: str) -> Path:
    """The image of a result in ``folder``: its file, copied as it is, or else its pixels as PNG.

    Raises:
        FocusDetrError: it is no file's, and was not kept.
    """
    source = Path(result.path)
    if is_image_file(source) and _is_of(source, result):
        target = folder / f"{name}{source.suffix}"
        with open(source, "rb") as stream, whole_file(target) as copy:
            shutil.copyfileobj(stream, copy)
        return target
    target = folder / f"{name}.png"
    with whole_file(target) as stream:
        kept_image(result).save(stream, "PNG")
    return target


def kept_image(result: Detections) -> Image.Image:
    """The image of a result that kept it; raises `FocusDetrError` for another."""
    if result.image is None:
        raise FocusDetrError(f"{result.path}: its image was not kept; predict with keep_images=True")
    return result.image


def _is_of(file: Path, result: Detections) -> bool:
    """Whether a file holds the image: one in memory may name the file it once came from."""
    try:
        return image_header(file).size == result.image_size[::-1]
    except (FocusDetrError, OSError):
        return False

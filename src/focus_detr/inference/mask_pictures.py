"""Masks as pictures: one of each image, in which every pixel says which object covers it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.inference.folder_writer import FolderWriter
from focus_detr.inference.results import Detections
from focus_detr.inference.writers import Result, write_all


class MaskWriter(FolderWriter):
    """`<image>.png` of 16 bits: 0 where nothing is, else the number of the object, counted from 1, best
    first, as in the other files; where masks overlap, of the best."""

    def _begin(self, class_names: Sequence[str]) -> None:
        """There is nothing beside the pictures."""

    def _write(self, name: str, result: Detections) -> None:
        with whole_file(self.folder / f"{name}.png") as stream:
            Image.fromarray(numbered_pixels(result)).save(stream, "PNG")


def numbered_pixels(result: Detections) -> np.ndarray:
    """(H,W) uint16, as `MaskWriter` says.

    Raises:
        FocusDetrError: the objects have no masks.
    """
    if result.masks is None:
        raise FocusDetrError(
            f"{result.path}: its objects have no masks; use a model trained with --task segment"
        )
    numbers = np.zeros(result.image_size, dtype=np.uint16)
    for position in reversed(range(len(result))):
        numbers[result.masks[position].decode(result.image_size)] = position + 1
    return numbers


def write_masks(results: Iterable[Result], folder: str | os.PathLike[str]) -> int:
    """Write a picture of the masks of each image (see `MaskWriter`); returns the number of objects."""
    return write_all(results, MaskWriter(folder))

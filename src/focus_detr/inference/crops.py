"""Every object found as a picture of its own, in a folder of its class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np

from focus_detr.data.naming import FreeNames
from focus_detr.folders import whole_file
from focus_detr.inference.folder_writer import FolderWriter, kept_image
from focus_detr.inference.results import Detections
from focus_detr.inference.writers import Result, write_all

_LONGEST_JPEG = 65_500
"""Pixels of a side, the limit of libjpeg; a panorama may have more."""


class CropWriter(FolderWriter):
    """`<class>/<image>-<n>.jpg`, n counting an image's objects from 1, best first; of one on a track,
    `<image>-<n>-track<id>.jpg`.

    A box that ends inside a pixel takes the whole pixel along. What is larger than JPEG can be is PNG.
    """

    def _begin(self, class_names: Sequence[str]) -> None:
        free = FreeNames()
        self._folders = [
            self.folder / free.of(name, f"class {label}") for label, name in enumerate(class_names)
        ]

    def _write(self, name: str, result: Detections) -> None:
        image = kept_image(result)
        low = np.floor(result.boxes_xyxy[:, :2]).astype(int)
        high = np.ceil(result.boxes_xyxy[:, 2:]).astype(int)
        corners = np.concatenate([low, high], axis=1).tolist()
        each = zip_longest(result.labels, corners, result.track_numbers())
        for position, (label, box, number) in enumerate(each, start=1):
            folder = self._folders[label]
            folder.mkdir(exist_ok=True)
            crop = image.crop(box)
            form, ending = ("JPEG", "jpg") if max(crop.size) <= _LONGEST_JPEG else ("PNG", "png")
            track = "" if number is None else f"-track{number}"
            with whole_file(folder / f"{name}-{position}{track}.{ending}") as stream:
                crop.save(stream, form, quality=95)


def write_crops(results: Iterable[Result], folder: str | os.PathLike[str]) -> int:
    """Write the pictures of all objects (see `CropWriter`) as results arrive; returns their number.

    Needs the images: ``predict(..., keep_images=True)``.
    """
    return write_all(results, CropWriter(folder))

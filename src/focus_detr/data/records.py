"""What flows through the data package: problems, records (what a source says), samples (with pixels)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from focus_detr.images.reading import image_header
from focus_detr.printable import in_line

Severity = Literal["warning", "error"]
UNNUMBERED = -1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    `warning`: repaired and still used (a clipped box, say). `error`: the file or box it names was left out.
    """

    kind: str
    severity: Severity
    file: str
    message: str
    fix: str

    def __str__(self) -> str:
        """One line, fit for a terminal whatever the files hold."""
        where, what = in_line(self.file, 300), in_line(self.message.removesuffix("."), 800)
        return f"{self.severity} [{self.kind}] {where}: {what}. {in_line(self.fix, 300)}"


def no_boxes() -> np.ndarray:
    return np.zeros((0, 4), dtype=np.float32)


def no_labels() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@dataclass
class Record:
    """One image of a data set and its boxes, without pixels.

    `boxes (T,4)` are xyxy, in pixels of the upright (EXIF applied) image, or in fractions of its width and
    height when `relative`; `boxes_xyxy` is always pixels. `ignored (I,4)` are crowd regions: evaluation
    neither rewards nor punishes what is found there, training never sees them. `areas` (T,) and
    `ignored_areas` (I,) are the source's own areas in square pixels (COCO: of the mask), where it gives them.
    `size` is (width, height) in pixels, read from the image file when the source does not say.
    """

    path: Path
    image_id: int
    boxes: np.ndarray = field(default_factory=no_boxes)
    labels: np.ndarray = field(default_factory=no_labels)
    ignored: np.ndarray = field(default_factory=no_boxes)
    ignored_labels: np.ndarray = field(default_factory=no_labels)
    areas: np.ndarray | None = None
    ignored_areas: np.ndarray | None = None
    relative: bool = False
    known_size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        if self.known_size is None:
            self.known_size = image_header(self.path).size
        return self.known_size

    @property
    def boxes_xyxy(self) -> np.ndarray:
        return self._in_pixels(self.boxes)

    @property
    def ignored_xyxy(self) -> np.ndarray:
        return self._in_pixels(self.ignored)

    def _in_pixels(self, boxes: np.ndarray) -> np.ndarray:
        if not self.relative:
            return boxes
        return (boxes * np.asarray(self.size * 2, dtype=np.float32)).astype(np.float32)


@dataclass
class Sample:
    """One image with its objects, as transforms pass it on.

    `boxes_xyxy (T,4)` float32 pixels of `image` as it is now, `labels (T,)` int64, `ignored (I,4)` crowd
    regions, `orig_size` (height, width) of the image as read, before any transform.
    `noise_seed` starts the noise of the denoising queries made from the objects; None leaves it to torch.
    """

    image: Image.Image
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    image_id: int
    path: Path
    orig_size: tuple[int, int]
    ignored: np.ndarray = field(default_factory=no_boxes)
    noise_seed: int | None = None

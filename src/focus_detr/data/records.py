"""What flows through the data package: problems, records (what a source says), samples (with pixels)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from focus_detr.images.reading import image_header
from focus_detr.printable import in_line
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import as_array

Severity = Literal["note", "warning", "error"]
UNNUMBERED = -1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    `warning`: repaired and still used (a clipped box, say). `error`: the file or box it names was left out.
    `note`: nothing is wrong, but it is worth knowing (`focus-detr doctor` alone says such).
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


@dataclass
class Record:
    """One image of a data set and its objects, without pixels.

    `stated` are the objects and `stated_crowds` the crowd regions as the source gives them: in pixels of the
    upright (EXIF applied) image, or in fractions of its width and height when `relative`; `instances` and
    `crowds` are the same, always in pixels. In crowd regions evaluation neither rewards nor punishes what is
    found, training never sees them.
    `taught` is what a teacher found, with its class logits, always in pixels; None where nobody was asked.
    `size` is (width, height) in pixels, read from the image file when the source does not say.
    """

    path: Path
    image_id: int
    stated: Instances = field(default_factory=Instances.empty)
    stated_crowds: Instances = field(default_factory=Instances.empty)
    relative: bool = False
    known_size: tuple[int, int] | None = None
    taught: Instances | None = None

    @property
    def size(self) -> tuple[int, int]:
        if self.known_size is None:
            self.known_size = image_header(self.path).size
        return self.known_size

    @property
    def instances(self) -> Instances:
        return self._in_pixels(self.stated)

    @property
    def crowds(self) -> Instances:
        return self._in_pixels(self.stated_crowds)

    @property
    def boxes(self) -> np.ndarray:
        """(T,4) xyxy as stated."""
        return self.stated.boxes_xyxy

    @property
    def labels(self) -> np.ndarray:
        return self.stated.labels

    @property
    def ignored(self) -> np.ndarray:
        """(I,4) xyxy of the crowd regions, as stated."""
        return self.stated_crowds.boxes_xyxy

    @property
    def boxes_xyxy(self) -> np.ndarray:
        return self.instances.boxes_xyxy

    def _in_pixels(self, stated: Instances) -> Instances:
        if not self.relative:
            return stated
        boxes = stated.boxes_xyxy * np.asarray(self.size * 2, dtype=np.float32)
        masks = stated.masks
        if masks is not None:
            masks = as_array(mask and mask.transform(self.size, scale=self.size) for mask in masks)
        return replace(stated, boxes_xyxy=boxes.astype(np.float32), masks=masks)


@dataclass
class Sample:
    """One image with its objects, as transforms pass it on.

    `instances` and `crowds` (regions, see `Record`) in pixels of `image` as it is now, `orig_size` (height,
    width) of the image as read, before any transform.
    `taught`: what a teacher found, which moves as the objects do.
    `noise_seed` starts the noise of the denoising queries made from the objects; None leaves it to torch.
    """

    image: Image.Image
    instances: Instances
    image_id: int
    path: Path
    orig_size: tuple[int, int]
    crowds: Instances = field(default_factory=Instances.empty)
    noise_seed: int | None = None
    taught: Instances | None = None

    @property
    def boxes_xyxy(self) -> np.ndarray:
        return self.instances.boxes_xyxy

    @property
    def labels(self) -> np.ndarray:
        return self.instances.labels

    @property
    def ignored(self) -> np.ndarray:
        """(I,4) boxes_xyxy of the crowd regions."""
        return self.crowds.boxes_xyxy

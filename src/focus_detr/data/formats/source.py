"""What a format's parser hands over before anything is checked, and where problems are gathered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from focus_detr.data.records import Problem, Severity


@dataclass
class RawBox:
    """A box as the source states it: `xyxy` in pixels, or in fractions when its image is `relative`."""

    xyxy: tuple[float, float, float, float]
    category: int
    crowd: bool = False
    area: float | None = None


@dataclass
class RawImage:
    path: Path
    image_id: int | None = None
    declared_size: tuple[int, int] | None = None
    boxes: list[RawBox] = field(default_factory=list)
    relative: bool = False
    annotation_file: Path | None = None
    named_by: Path | None = None
    """What says that the image is there, where that is not its annotation file."""


@dataclass
class Source:
    """One split of one data set as read: `categories` maps the source's ids to names, in label order."""

    categories: dict[int, str]
    images: list[RawImage]


@dataclass
class ProblemLog:
    """Collects problems; `on_each` also sees every one as it is found."""

    on_each: Callable[[Problem], None] | None = None
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, severity: Severity, file: Path | str, message: str, fix: str) -> None:
        problem = Problem(kind, severity, str(file), message, fix)
        self.problems.append(problem)
        if self.on_each is not None:
            self.on_each(problem)


IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .webp .tif .tiff .gif .jfif .ppm .pgm .jp2 .avif".split())


def is_image_file(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES

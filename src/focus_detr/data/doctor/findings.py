"""Finding: one thing worth knowing about a data set; Subject: what every check looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.doctor.survey import Survey
from focus_detr.data.records import Problem
from focus_detr.printable import unicode_name

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Example:
    """A picture, or a place in it, that shows what a finding is about.

    Attributes:
        path: of the picture.
        box_xyxy: in pixels of the upright picture; None for all of it.
        caption: what is to be seen.
    """

    path: Path
    box_xyxy: Box | None = None
    caption: str = ""


@dataclass(frozen=True)
class Finding(Problem):
    """A problem with where it was found and what it looks like.

    Attributes:
        split: whose it is; empty where it is of all.
        mended: `--fix` writes a copy without it.
        examples: some of the places it was found at.
    """

    split: str = ""
    mended: bool = False
    examples: tuple[Example, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "split": self.split,
            "file": unicode_name(self.file),
            "message": self.message,
            "fix": self.fix,
            "mended_by_fix": self.mended,
            "examples": [
                {
                    "path": unicode_name(str(each.path)),
                    "box_xyxy": None if each.box_xyxy is None else [round(side, 2) for side in each.box_xyxy],
                    "caption": each.caption,
                }
                for each in self.examples
            ],
        }


@dataclass(frozen=True)
class Subject:
    """What a check looks at.

    Attributes:
        datasets: those that could be loaded, by split, in the order of the source.
        survey: what was seen of their pictures, by path.
    """

    datasets: Mapping[str, DetectionDataset]
    survey: Survey = field(default_factory=Survey)

    @property
    def name(self) -> str:
        return next((dataset.name for dataset in self.datasets.values()), "data set")

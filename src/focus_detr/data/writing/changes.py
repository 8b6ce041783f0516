"""Changes: what a written data set has otherwise than those it was made from, for people to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from focus_detr.printable import counted, in_line, in_number

_NOT_READ = (
    "Copied are pictures, boxes, classes, crowd flags, areas and polygons or masks. What else the original "
    "says of its pictures and objects (licences, attributes, keypoints) is not read, and not in the copy."
)


@dataclass
class Changes:
    """What was done, in words.

    Attributes:
        left_out: pictures and objects that are not in the copy, and why.
        changed: what is otherwise.
        renamed: names of files by what they were, where another had the name.
        pictures, objects: what was written, by split.
    """

    left_out: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    pictures: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    _losses: Counter[str] = field(default_factory=Counter)

    def lose(self, what: str, count: int = 1) -> None:
        """Count something that the format cannot hold; ``what`` follows the number."""
        if count:
            self._losses[what] += count

    @property
    def losses(self) -> list[str]:
        return [in_number(f"{{count}} {what}", count) for what, count in self._losses.items()]

    def text(self, title: str) -> str:
        """The list that lies beside what was written."""
        written = [
            f"{split}: {counted(count, 'picture')}, {counted(self.objects[split], 'object')}"
            for split, count in self.pictures.items()
        ]
        renamed = [f"{old} is now {new}" for old, new in self.renamed.items()]
        parts = [title, *written, "", _NOT_READ]
        for heading, lines in (
            ("Left out", self.left_out),
            ("Changed", self.changed),
            ("What the format does not hold", self.losses),
            ("Renamed", renamed),
        ):
            if lines:
                parts += ["", f"{heading}:", *(f"- {in_line(line, 1000)}" for line in lines)]
        return "\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "pictures": dict(self.pictures),
            "objects": dict(self.objects),
            "left_out": self.left_out,
            "changed": self.changed,
            "losses": self.losses,
            "renamed": self.renamed,
        }

"""What a format's parser hands over before anything is checked, and where problems are gathered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from focus_detr.data.records import Problem, Severity
from focus_detr.printable import in_number, listed
from focus_detr.structures.masks import Mask


@dataclass
class RawBox:
    """A box as the source states it: `xyxy` in pixels, or in fractions when its image is `relative`."""

    xyxy: tuple[float, float, float, float]
    category: int
    crowd: bool = False
    area: float | None = None
    mask: Mask | None = None


@dataclass
class RawImage:
    path: Path
    image_id: int | None = None
    declared_size: tuple[int, int] | None = None
    boxes: list[RawBox] = field(default_factory=list)
    lost: int = 0
    """Objects that the source states but that could not be read; reported where they were met."""
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


@dataclass(frozen=True)
class Fault:
    """A kind of thing wrong in a file: what is said of all that have it, for `in_number`."""

    kind: str
    severity: Severity
    message: str
    fix: str


class Tally:
    """Counts what is wrong alike in one file: one problem with its first example, not thousands."""

    def __init__(self, file: Path, log: ProblemLog) -> None:
        self._file, self._log = file, log
        self._found: dict[Fault, tuple[int, str]] = {}

    def add(self, fault: Fault, example: str) -> None:
        count, first = self._found.get(fault, (0, example))
        self._found[fault] = count + 1, first

    def report(self) -> None:
        for fault, (count, first) in self._found.items():
            message = in_number(fault.message, count)
            self._log.add(
                fault.kind, fault.severity, self._file, f"{message}; the first is {first}", fault.fix
            )


class UnknownClasses:
    """Counts objects of classes that a data set does not have, with the place of the first of each."""

    def __init__(self, file: Path, log: ProblemLog) -> None:
        self._file, self._log = file, log
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, name: str, place: str) -> None:
        count, first = self._found.get(name, (0, place))
        self._found[name] = count + 1, first

    def report(self, what: str, fix: str) -> None:
        """One problem for all of them; ``what`` ("objects of ...") says what they are."""
        if not self._found:
            return
        found = (
            f"{name} ({in_number('{count} time[|s]', count)}, first {place})"
            for name, (count, place) in self._found.items()
        )
        self._log.add("unknown-class", "error", self._file, f"{what} were left out: {listed(found)}", fix)

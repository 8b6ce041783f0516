"""examine(): a data set's splits loaded, its pictures looked at once, every check asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focus_detr.data.coverage import box_coverage
from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.doctor.checks import CHECKS, Check
from focus_detr.data.doctor.findings import Finding, Subject
from focus_detr.data.doctor.survey import survey
from focus_detr.data.doctor.unions import without_unions
from focus_detr.data.formats.recognise import list_splits, load_dataset
from focus_detr.data.records import Severity
from focus_detr.errors import FocusDetrError
from focus_detr.printable import counted, percent

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_FIRST = 3


@dataclass
class Examination:
    """What was found of a data set.

    Attributes:
        name: where it is.
        subject: its splits and what was seen of their pictures.
        refused: splits that could not be loaded, and why.
        findings: the gravest first.
        facts: what else was measured, by name, as plain values.
    """

    name: str
    subject: Subject
    refused: Mapping[str, FocusDetrError]
    findings: list[Finding]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def datasets(self) -> Mapping[str, DetectionDataset]:
        return self.subject.datasets

    def count(self, severity: Severity) -> int:
        return sum(each.severity == severity for each in self.findings)

    def add(self, findings: Sequence[Finding]) -> None:
        """More findings, in their place."""
        self.findings = ranked([*self.findings, *findings])

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "data": self.name,
            "splits": [_counts(split, dataset) for split, dataset in self.datasets.items()],
            "refused": {split: str(error) for split, error in self.refused.items()},
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "findings": [each.to_dict() for each in self.findings],
            **self.facts,
        }

    def text(self) -> str:
        """For people: kinds with their numbers, and the first of each."""
        lines = []
        for split, dataset in self.datasets.items():
            counts = _counts(split, dataset)
            covered = counts["covered"]
            share = "" if covered is None else f"; boxes cover {percent(covered)} of a picture"
            lines.append(
                f"{split}: {counted(counts['images'], 'image')}, "
                f"{counted(sum(counts['objects'].values()), 'object')} "
                f"of {counted(len(dataset.class_names), 'class', 'classes')}{share}"
            )
        lines += [f"{split}: cannot be read: {error}" for split, error in self.refused.items()]
        for group in grouped(self.findings).values():
            lines += [f"  {each}" for each in group[:_FIRST]]
            if len(group) > _FIRST:
                lines.append(f"    ... and {len(group) - _FIRST} more {group[0].kind}")
        said = ", ".join(
            counted(count, severity) for severity in SEVERITIES if (count := self.count(severity))
        )
        return "\n".join([*lines, f"{said or 'Nothing wrong was found'}."])


def examine(
    path: str | Path,
    split: str | None = None,
    *,
    crowds: str = "regions",
    checks: Sequence[Check] = CHECKS,
) -> Examination:
    """Everything the ``checks`` find of a data set: of all its splits, or of one.

    Args:
        path, split, crowds: as in `load_dataset`.

    Raises:
        FocusDetrError: no data set is there, or none of its splits can be loaded.
    """
    datasets: dict[str, DetectionDataset] = {}
    refused: dict[str, FocusDetrError] = {}
    for name in [split] if split else list_splits(path):
        try:
            datasets[name] = load_dataset(
                path, name, on_problem="ignore", check_images="headers", crowds=crowds, masks="where given"
            )
        except FocusDetrError as error:
            refused[name] = error
    if not datasets:
        raise next(iter(refused.values()))
    datasets, unions = without_unions(datasets)
    seen = survey(record.path for dataset in datasets.values() for record in dataset.records)
    subject = Subject(datasets, seen)
    findings = [finding for check in checks for finding in check(subject)]
    findings += [
        Finding(
            "union-of-splits",
            "note",
            str(path),
            f"the split {name!r} is all of {' and '.join(map(repr, parts))}: it is not looked at by itself",
            f"Nothing; here {'+'.join(parts)!r} names it without a list.",
            name,
            mended=True,
        )
        for name, parts in unions.items()
    ]
    return Examination(str(path), subject, refused, ranked(findings))


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """The gravest first, kinds together, otherwise as they came."""
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(each.kind for each in findings))}
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), kinds[each.kind]))


def grouped(findings: Sequence[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """By severity and kind, in order."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.severity, each.kind), []).append(each)
    return groups


def _counts(split: str, dataset: DetectionDataset) -> dict[str, Any]:
    sizes = Counter(record.known_size for record in dataset.records if record.known_size)
    return {
        "split": split,
        "images": len(dataset),
        "objects": dataset.class_counts(),
        "covered": box_coverage(dataset.records),
        "sizes": {"x".join(map(str, size)): count for size, count in sizes.most_common(20)},
    }

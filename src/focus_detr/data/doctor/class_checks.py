"""Classes without objects, with few, and with names that look like one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from focus_detr.data.doctor.findings import Finding, Subject
from focus_detr.data.suspicions import suspicions
from focus_detr.printable import in_line, in_number, listed

_IMBALANCE = 100
_FEW = 10


def whole_set_suspicions(subject: Subject) -> Iterator[Finding]:
    """What `focus-detr check` warns of: unused classes, one a picture, boxes that fill their pictures."""
    for split, dataset in subject.datasets.items():
        for problem in suspicions(dataset):
            yield Finding(problem.kind, problem.severity, problem.file, problem.message, problem.fix, split)


def class_imbalance(subject: Subject) -> Iterator[Finding]:
    """Classes a hundredth as frequent as the most frequent one, or with a handful of objects."""
    for split, dataset in subject.datasets.items():
        counts = {name: count for name, count in dataset.class_counts().items() if count}
        if len(counts) < 2:
            continue
        most = max(counts, key=lambda name: counts[name])
        rare = sorted((count, name) for name, count in counts.items() if count * _IMBALANCE < counts[most])
        if rare:
            yield Finding(
                "class-imbalance",
                "warning",
                dataset.name,
                in_number(
                    "{count} [class has|classes have] less than a hundredth of the objects of ", len(rare)
                )
                + f"{in_line(most, 80)!r} "
                f"({counts[most]}): {listed(f'{name} {count}' for count, name in rare)}",
                "Find more pictures of them, or read their average precision as the chance it is.",
                split,
            )
        few = sorted((count, name) for name, count in counts.items() if count < _FEW)
        if few and not rare:
            yield Finding(
                "few-objects",
                "note",
                dataset.name,
                in_number("{count} [class has|classes have] fewer than ", len(few)) + f"{_FEW} objects: "
                f"{listed(f'{name} {count}' for count, name in few)}",
                "Find more pictures of them.",
                split,
            )


def similar_names(subject: Subject) -> Iterator[Finding]:
    """Class names that differ in case, spaces, hyphens or a plural s alone."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(name for data in subject.datasets.values() for name in data.class_names):
        alike[re.sub(r"[\s_\-]+", "", name.casefold()).removesuffix("s")].append(name)
    twins = [names for names in alike.values() if len(names) > 1]
    if twins:
        first = twins[0]
        yield Finding(
            "similar-class-names",
            "warning",
            subject.name,
            f"classes of nearly one name: {listed(' / '.join(names) for names in twins)}",
            "If they are one class, merge them: in training and evaluation "
            f"--classes {in_line(','.join(f'{name}={first[0]}' for name in first), 120)} and all others.",
        )

"""What loading the data set found: files, ids, boxes and classes that had to be repaired or left out."""

from __future__ import annotations

from collections.abc import Iterator

from focus_detr.data.doctor.findings import Finding, Subject

# What a copy has as the original does: nobody but its makers knows better.
_KEPT = frozenset(("mostly-crowds",))


def problems_of_loading(subject: Subject) -> Iterator[Finding]:
    """Each problem of each split; what was repaired or left out is so in a copy, too."""
    for split, dataset in subject.datasets.items():
        for problem in dataset.problems:
            yield Finding(
                problem.kind,
                problem.severity,
                problem.file,
                problem.message,
                problem.fix,
                split,
                mended=problem.kind not in _KEPT,
            )

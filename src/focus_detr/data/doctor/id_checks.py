"""Ids and names that two splits have both, for different pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator

from focus_detr.data.doctor.findings import Finding, Subject
from focus_detr.data.records import Record
from focus_detr.data.same_files import same_files
from focus_detr.printable import in_number


def image_ids_in_two_splits(subject: Subject) -> Iterator[Finding]:
    """Of COCO, whose ids are the source's own; the other formats have none."""
    if any(dataset.format == "coco" for dataset in subject.datasets.values()):
        yield from _clashes(
            subject,
            "image-id-in-two-splits",
            lambda record: record.image_id,
            "image [id is that|ids are those]",
            "Nothing, while the splits stay apart; `focus-detr data merge` numbers them afresh.",
        )


def file_names_in_two_splits(subject: Subject) -> Iterator[Finding]:
    """Names of files that say two different pictures."""
    yield from _clashes(
        subject,
        "file-name-in-two-splits",
        lambda record: record.path.name,
        "file [name is that|names are those]",
        "Nothing, while they lie in different folders; `focus-detr data merge` and `convert` rename one.",
    )


def _clashes(
    subject: Subject, kind: str, key: Callable[[Record], Hashable], what: str, fix: str
) -> Iterator[Finding]:
    owners: dict[Hashable, dict[str, Record]] = defaultdict(dict)
    for split, dataset in subject.datasets.items():
        for record in dataset.records:
            owners[key(record)].setdefault(split, record)
    shared = [records for records in owners.values() if len(records) > 1]
    # The same picture in two splits is said of as that.
    shared = [records for records in shared if len(same_files([each.path for each in records.values()])) > 1]
    if shared:
        (split, record), (other, twin) = list(shared[0].items())[:2]
        yield Finding(
            kind,
            "note",
            str(record.path),
            in_number("{count} " + what + " of different pictures in two splits: ", len(shared))
            + f"{record.path.name} of "
            f"{split!r} and {twin.path.name} of {other!r}",
            fix,
        )

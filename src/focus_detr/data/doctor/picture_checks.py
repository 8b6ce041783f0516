"""Pictures that cannot be read, that are there twice, and that look like another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from focus_detr.data.doctor.findings import Example, Finding, Subject
from focus_detr.data.doctor.near_duplicates import groups_of, near_duplicates
from focus_detr.data.same_files import same_files
from focus_detr.printable import in_number

_SHOWN = 6


def unreadable_pictures(subject: Subject) -> Iterator[Finding]:
    """Pictures whose pixels cannot be read to the end."""
    faults = subject.survey.unreadable
    for split, dataset in subject.datasets.items():
        for record in dataset.records:
            if record.path in faults:
                yield Finding(
                    "unreadable-image",
                    "error",
                    str(record.path),
                    faults[record.path],
                    "Copy it again from its source, or leave it out.",
                    split,
                    mended=True,
                )


def identical_pictures(subject: Subject) -> Iterator[Finding]:
    """Pictures that are there twice, as one file or byte for byte: in a split, or in two."""
    places = _places(subject)
    groups = same_files([path for _, path in places])
    yield from _said(subject, places, groups, _IDENTICAL)


def near_duplicate_pictures(subject: Subject) -> Iterator[Finding]:
    """Pictures that look alike but are other files: other sizes, qualities, or a moment later."""
    places = _places(subject)
    pairs = alike_pairs(subject)
    apart = np.asarray([places[a][0] != places[b][0] for a, b in pairs.tolist()], dtype=bool)
    across = [
        pair for pair in pairs[apart].tolist() if len(same_files([places[each][1] for each in pair])) > 1
    ]
    yield from _said(subject, places, across, _ALIKE)
    within = groups_of(pairs[~apart], len(places))
    yield from _said(subject, places, _unlike_files(places, within), _ALIKE)


def alike_pairs(subject: Subject) -> np.ndarray:
    """Pairs (E,2) of pictures that look alike, as positions in all records of all splits, in order; not all
    pairs of many, see `near_duplicates`."""
    seen = subject.survey
    place_of = {path: position for position, path in enumerate(seen.paths)}
    rows = [place_of.get(path, -1) for _, path in _places(subject)]
    known = [place for place, row in enumerate(rows) if row >= 0 and row not in seen.faults]
    of_known = [rows[place] for place in known]
    found = near_duplicates(seen.hashes[of_known], seen.thumbnails[of_known])
    return np.asarray(known, dtype=np.int64)[found].reshape(-1, 2)


def alike_pictures(subject: Subject) -> list[list[int]]:
    """Pictures, as positions in all records of all splits in order, by what they look like, each once."""
    return groups_of(alike_pairs(subject), len(_places(subject)))


def _places(subject: Subject) -> list[tuple[str, Path]]:
    return [(split, record.path) for split, data in subject.datasets.items() for record in data.records]


def _unlike_files(places: list[tuple[str, Path]], groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Of each group, one place of each file: those that are the same bytes are said of already."""
    found = []
    for group in groups:
        same = same_files([places[position][1] for position in group])
        found.append([group[each[0]] for each in same])
    return found


def _said(
    subject: Subject,
    places: list[tuple[str, Path]],
    groups: Sequence[Sequence[int]],
    said: dict[bool, Finding],
) -> Iterator[Finding]:
    order = {split: number for number, split in enumerate(subject.datasets)}
    pairs: dict[tuple[str, str], list[tuple[Path, Path]]] = defaultdict(list)
    for group in groups:
        # The first picture of each split against that of the first one, the others against their split's.
        first: dict[str, Path] = {}
        for position in group:
            split, path = places[position]
            if split in first:
                pairs[split, split].append((path, first[split]))
            elif first:
                other = next(iter(first))
                pairs[split, other].append((path, first[other]))
            first.setdefault(split, path)
    by_split = sorted(pairs.items(), key=lambda item: [order[name] for name in item[0]])
    for (split, other), every in by_split:
        # A picture that is like several others is one.
        found = list({path: (path, twin) for path, twin in every}.values())
        kind = said[split != other]
        (path, twin), count = found[0], len(found)
        message = in_number(kind.message, count).format(other=other, first=path, second=twin)
        examples = [
            example
            for number, pair in enumerate(found[: _SHOWN // 2], 1)
            for example in (
                Example(pair[0], None, f"pair {number}: {split}"),
                Example(pair[1], None, f"pair {number}: {other}"),
            )
        ]
        yield Finding(
            kind.kind, kind.severity, str(path), message, kind.fix, split, kind.mended, tuple(examples)
        )


_IDENTICAL = {
    True: Finding(
        "picture-in-two-splits",
        "warning",
        "",
        "{count} picture[|s] [is|are] also in the split {other!r}: {first} is the same picture as {second}",
        "Take them out of one: figures on pictures that were learned say nothing of others.",
        mended=True,
    ),
    False: Finding(
        "identical-pictures",
        "warning",
        "",
        "{count} picture[|s] [is|are] byte for byte the same as another of the split: {first} and {second}",
        "Keep one of each.",
        mended=True,
    ),
}
_ALIKE = {
    True: Finding(
        "alike-in-two-splits",
        "warning",
        "",
        "{count} picture[|s] [looks|look] like one of the split {other!r}: {first} like {second}",
        "Look at them: of one scene, they belong into one split, as `focus-detr data split` has them.",
        mended=True,
    ),
    False: Finding(
        "near-duplicates",
        "note",
        "",
        "{count} picture[|s] [looks|look] like another of the split: {first} like {second}",
        "Nothing, if they are moments of one scene; where all are alike, fewer of them teach as much.",
    ),
}

"""write_fixed(): a copy of a data set without what can be mended, and the list of what was done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.doctor.box_checks import overlapping
from focus_detr.data.doctor.examine import Examination
from focus_detr.data.doctor.findings import Subject
from focus_detr.data.doctor.picture_checks import alike_pairs
from focus_detr.data.formats.recognise import short_split_name
from focus_detr.data.records import Record
from focus_detr.data.same_files import same_files
from focus_detr.data.writing import Changes, write_dataset
from focus_detr.errors import FocusDetrError

# Of two splits with a picture in common, the one to be measured on keeps it: figures stay comparable.
_KEEPS = ("test", "val")


def write_fixed(found: Examination, folder: str | os.PathLike[str]) -> Changes:
    """Writes the data set anew, in its format, mended as the findings say: what cannot be read or used is
    left out, sizes are corrected, a picture is there once, no two splits have alike pictures, and no object
    is there twice. The original is only read.

    Raises:
        FocusDetrError: a split could not be loaded and would be lost, or the folder cannot be written to.
    """
    if found.refused:
        raise next(iter(found.refused.values()))
    changes = Changes()
    for each in found.findings:
        # What is left out below is listed there, picture by picture.
        if each.mended and each.kind not in _LISTED_HERE:
            list_of = changes.left_out if each.severity == "error" else changes.changed
            list_of.append(f"{each.file}: {each.message}")
    subject = _readable(found.subject, changes)
    subject = _without_identical(subject, changes)
    subject = _without_leaks(subject, changes)
    datasets = {split: _without_doubled(dataset, changes) for split, dataset in subject.datasets.items()}
    format = next(iter(datasets.values())).format
    return write_dataset(datasets, folder, format, changes, f"A cleaned copy of {found.name}.")


_LISTED_HERE = frozenset(
    (
        "unreadable-image",
        "identical-pictures",
        "picture-in-two-splits",
        "alike-in-two-splits",
        "nearly-doubled-box",
    )
)


def _readable(subject: Subject, changes: Changes) -> Subject:
    faults = subject.survey.unreadable
    dropped: dict[str, set[int]] = {}
    for split, dataset in subject.datasets.items():
        dropped[split] = {place for place, record in enumerate(dataset.records) if record.path in faults}
        lost = [dataset.records[place].path for place in sorted(dropped[split])]
        changes.left_out += [f"{path}: cannot be read: {faults[path]}" for path in lost]
        said = {problem.file: problem for problem in dataset.problems if problem.kind == "unreadable-image"}
        changes.left_out += [f"{file}: cannot be read: {problem.message}" for file, problem in said.items()]
    return _without(subject, dropped, changes)


def _without_identical(subject: Subject, changes: Changes) -> Subject:
    places = _places(subject)
    dropped: dict[str, set[int]] = {}
    for group in same_files([record.path for _, _, record in places]):
        keep = max(group, key=lambda place: (_rank(places[place][0]), -place))
        for place in group:
            split, position, record = places[place]
            if place != keep:
                dropped.setdefault(split, set()).add(position)
                kept = places[keep]
                changes.left_out.append(f"{record.path} ({split}): is {kept[2].path} ({kept[0]})")
    return _without(subject, dropped, changes)


def _without_leaks(subject: Subject, changes: Changes) -> Subject:
    """No picture looks like one of another split; those of one split may."""
    while True:
        places = _places(subject)
        dropped: dict[str, set[int]] = {}
        for pair in alike_pairs(subject).tolist():
            lesser, greater = sorted(pair, key=lambda place: (_rank(places[place][0]), -place))
            split, position, record = places[lesser]
            other, _, twin = places[greater]
            if split != other and position not in dropped.setdefault(split, set()):
                dropped[split].add(position)
                changes.left_out.append(f"{record.path} ({split}): looks like {twin.path} ({other})")
        if not any(dropped.values()):
            return subject
        # Of many alike pictures not all pairs are known: those left are compared again.
        subject = _without(subject, dropped, changes)


def _without_doubled(dataset: DetectionDataset, changes: Changes) -> DetectionDataset:
    records = []
    for record in dataset.records:
        later = np.unique(overlapping(record, same_class=True)[:, 1])
        if len(later):
            kept = np.ones(len(record.labels), dtype=bool)
            kept[later] = False
            names = ", ".join(dataset.class_names[label] for label in record.labels[later])
            changes.left_out.append(f"{record.path}: {len(later)} boxes there before, nearly: {names}")
            record = replace(record, stated=record.stated[kept])
        records.append(record)
    return dataset.with_records(records)


def _places(subject: Subject) -> list[tuple[str, int, Record]]:
    return [
        (split, position, record)
        for split, dataset in subject.datasets.items()
        for position, record in enumerate(dataset.records)
    ]


def _rank(split: str) -> int:
    short = short_split_name(split)
    return len(_KEEPS) - _KEEPS.index(short) if short in _KEEPS else 0


def _without(subject: Subject, dropped: Mapping[str, set[int]], changes: Changes) -> Subject:
    datasets = {}
    for split, dataset in subject.datasets.items():
        gone = dropped.get(split, set())
        kept = [record for position, record in enumerate(dataset.records) if position not in gone]
        if kept:
            datasets[split] = dataset.with_records(kept) if gone else dataset
        else:
            changes.left_out.append(f"the split {split!r}: nothing of it is left")
    if not datasets:
        raise FocusDetrError(f"{subject.name}: no picture is left to write")
    return Subject(datasets, subject.survey)

"""Data sets into others: divided, in another format, several as one. Each is read, and written anew."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.dividing import divide
from focus_detr.data.doctor.findings import Subject
from focus_detr.data.doctor.picture_checks import alike_pictures
from focus_detr.data.doctor.survey import survey
from focus_detr.data.doctor.unions import without_unions
from focus_detr.data.formats.recognise import list_splits, load_dataset, short_split_name
from focus_detr.data.merging import merge_classes
from focus_detr.data.records import Record
from focus_detr.data.writing import Changes, write_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.printable import listed

PathLike = str | os.PathLike[str]
_FAR = 0.02  # of all pictures: a division that is further off what was asked says so


def convert_dataset(
    data: PathLike,
    output: PathLike,
    format: str,
    *,
    split: str | None = None,
    crowds: str = "regions",
    shard_images: int | None = None,
) -> Changes:
    """A data set in another format (coco, yolo, voc or shards, with ``shard_images`` pictures each).

    Raises:
        FocusDetrError: as `load_dataset` and `write_dataset`.
    """
    changes = Changes()
    splits = _one_naming(_loaded(data, split, crowds, changes), changes)
    title = f"{data} as {format}."
    return write_dataset(splits, output, format, changes, title, shard_images=shard_images)


def split_dataset(
    data: PathLike,
    output: PathLike,
    shares: Mapping[str, float],
    *,
    split: str | None = None,
    seed: int = 0,
    format: str | None = None,
    crowds: str = "regions",
) -> Changes:
    """One split of a data set divided into train and the splits of ``shares``, by class and by chance.

    Each class has its share of pictures in each split, as far as pictures of several classes allow. Pictures
    that look alike stay together.

    Args:
        shares: of all pictures, by the names of the splits.
        split: the one that is divided; the only one there is when not given.
        format: its own when not given.

    Raises:
        FocusDetrError: shares that leave nothing, too few pictures; as `load_dataset`, `write_dataset`.
    """
    total = sum(shares.values())
    if not shares or any(not 0 < share < 1 for share in shares.values()) or total >= 1:
        raise FocusDetrError(
            f"shares {dict(shares)}: each must lie between 0 and 1, and leave some for train"
        )
    if "train" in shares:
        raise FocusDetrError("shares: train gets what the others leave; give theirs")
    changes = Changes()
    names = list_splits(Path(data))
    if split is None and len(names) > 1:
        raise FocusDetrError(
            f"{data}: has the splits {listed(names)}. Say which one is divided (--split), or several as one: "
            f"{'+'.join(names)}"
        )
    (dataset,) = _loaded(data, split or names[0], crowds, changes).values()
    seen = survey(record.path for record in dataset.records)
    for path, reason in seen.unreadable.items():
        changes.left_out.append(f"{path}: cannot be read: {reason}")
    rest = dataset.with_records(
        [each for each in dataset.records if each.path not in seen.unreadable], "train"
    )
    parts: dict[str, DetectionDataset] = {}
    remaining, count = 1.0, len(rest)
    for name, share in shares.items():
        groups = alike_pictures(Subject({"train": rest}, seen))
        held = set(divide(rest, share / remaining, seed, groups))
        if abs(len(held) - share * count) > max(1, _FAR * count):
            changes.changed.append(
                f"{name}: has {len(held) / count:.1%} of the pictures, not the {share:.1%} asked for: each "
                "class is to be on both sides, and pictures that look alike stay together, here "
                f"{max(map(len, groups))} at most"
            )
        parts[name] = rest.with_records([rest.records[place] for place in sorted(held)], name)
        rest = rest.with_records([each for place, each in enumerate(rest.records) if place not in held])
        remaining -= share
    found = {"train": rest, **parts}
    return write_dataset(found, output, format or dataset.format, changes, f"{data}, divided (seed {seed}).")


def merge_datasets(
    sources: Sequence[PathLike], output: PathLike, format: str | None = None, *, crowds: str = "regions"
) -> Changes:
    """Several data sets as one: splits by name, classes by name, images numbered afresh where ids clash.

    Args:
        format: that of the first when not given.

    Raises:
        FocusDetrError: fewer than two, or one twice; as `load_dataset` and `write_dataset`.
    """
    if len(sources) < 2:
        raise FocusDetrError("merge: two data sets or more are needed")
    named = [os.path.realpath(source) for source in sources]
    if twice := next((source for source in sources if named.count(os.path.realpath(source)) > 1), None):
        raise FocusDetrError(f"merge: {twice} is named twice, and its pictures would be there twice")
    changes = Changes()
    loaded = [_loaded(source, None, crowds, changes) for source in sources]
    flat = {
        f"{place} {split}": dataset for place, part in enumerate(loaded) for split, dataset in part.items()
    }
    flat = _one_naming(flat, changes)
    merged: dict[str, list[DetectionDataset]] = {}
    for key, dataset in flat.items():
        split = key.partition(" ")[2]
        short = short_split_name(split)
        merged.setdefault("train" if short == "all" else short, []).append(dataset)
        if short == "all":
            changes.changed.append(f"{dataset.name}: has one split, which is part of 'train'")
    splits = {
        split: parts[0].with_records(_renumbered(parts, split, changes), split)
        for split, parts in merged.items()
    }
    title = f"{listed(sources)} as one."
    format = format or next(iter(flat.values())).format
    return write_dataset(splits, output, format, changes, title, originals=sources)


def _loaded(data: PathLike, split: str | None, crowds: str, changes: Changes) -> dict[str, DetectionDataset]:
    """Each split, what of it was repaired or left out put down; without those that are others together."""
    found = {}
    for name in [split] if split else list_splits(Path(data)):
        dataset = load_dataset(Path(data), name, on_problem="ignore", crowds=crowds, masks="where given")
        found[dataset.split] = dataset
    found, unions = without_unions(found)
    for dataset in found.values():
        for problem in dataset.problems:
            list_of = changes.left_out if problem.severity == "error" else changes.changed
            list_of.append(f"{problem.file}: {problem.message}")
    changes.left_out += [
        f"the split {name!r}: it is all of {listed(parts)} together" for name, parts in unions.items()
    ]
    return found


def _one_naming(datasets: Mapping[str, DetectionDataset], changes: Changes) -> dict[str, DetectionDataset]:
    """All with the same classes, those of the first one first, with the ids that the first of them has."""
    names = list(dict.fromkeys(name for dataset in datasets.values() for name in dataset.class_names))
    ids: dict[str, int] = {}
    for dataset in datasets.values():
        for name, identifier in zip(dataset.class_names, dataset.category_ids, strict=True):
            if name not in ids:
                free = identifier not in ids.values()
                ids[name] = identifier if free else max(*ids.values(), identifier) + 1
                if not free:
                    changes.changed.append(
                        f"class {name!r} of {dataset.name}: its id {identifier} is another class's; it is "
                        f"{ids[name]} now"
                    )
    found = {}
    for key, dataset in datasets.items():
        same = merge_classes(dataset, {name: name for name in dataset.class_names}, names)
        same.category_ids = [ids[name] for name in names]
        found[key] = same
    return found


def _renumbered(parts: Sequence[DetectionDataset], split: str, changes: Changes) -> list[Record]:
    taken: set[int] = set()
    fresh = 1 + max((record.image_id for dataset in parts for record in dataset.records), default=0)
    records = []
    for dataset in parts:
        clashes = 0
        for record in dataset.records:
            if record.image_id in taken:
                record, fresh, clashes = replace(record, image_id=fresh), fresh + 1, clashes + 1
            taken.add(record.image_id)
            records.append(record)
        if clashes and dataset.format == "coco":
            changes.changed.append(
                f"{dataset.name}: {clashes} images of {split!r} have ids of another data set's and were "
                "numbered afresh"
            )
    return records

"""A data set with other classes: some left out, some renamed, some become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from focus_detr.data.dataset import DetectionDataset
from focus_detr.structures.instances import Instances


def merge_classes(
    dataset: DetectionDataset, renamed: Mapping[str, str], names: Sequence[str] | None = None
) -> DetectionDataset:
    """``dataset`` with the classes that ``renamed`` names, as it names them; objects of others are gone.

    An object that has the same box in several classes which become one is one object.

    Args:
        renamed: new names by old ones, all of which the data set has.
        names: the new names by label, with others that the data set lacks; those of ``renamed`` in the order
            of the old labels when not given.
    """
    old = dataset.class_names
    there = list(dict.fromkeys(renamed[name] for name in old if name in renamed))
    names = list(there if names is None else names)
    label_of = {name: label for label, name in enumerate(names)}
    labels = np.array([label_of.get(renamed.get(name, ""), -1) for name in old])
    records = [
        replace(
            record,
            stated=_relabelled(record.stated, labels),
            stated_crowds=_relabelled(record.stated_crowds, labels),
        )
        for record in dataset.records
    ]
    return DetectionDataset(
        records,
        names,
        _category_ids(dataset, labels, names),
        dataset.problems,
        dataset.name,
        dataset.split,
        dataset.format,
    )


def _relabelled(objects: Instances, labels: np.ndarray) -> Instances:
    before = objects.labels
    changed = replace(objects, labels=labels[before].astype(before.dtype))
    rows = np.column_stack([changed.labels, changed.boxes_xyxy])
    _, first, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    # Two of one class in one place, as somebody labelled them, stay two.
    return changed[(changed.labels >= 0) & (before == before[first[same.reshape(-1)]])]


def _category_ids(dataset: DetectionDataset, labels: np.ndarray, names: Sequence[str]) -> list[int]:
    """Of a merged class, the id of the one that had its name already, else the first one's."""
    free = max(dataset.category_ids) + 1
    found = []
    for label, name in enumerate(names):
        of_it = np.flatnonzero(labels == label).tolist()
        kept = [old for old in of_it if dataset.class_names[old] == name] or of_it
        found.append(dataset.category_ids[kept[0]] if kept else free)
        free += not kept
    return found

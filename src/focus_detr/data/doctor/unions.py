"""Splits that are other splits together, as VOC's trainval: no leak, and nothing to look at twice."""

from __future__ import annotations

from collections.abc import Mapping

from focus_detr.data.dataset import DetectionDataset


def without_unions(
    datasets: Mapping[str, DetectionDataset],
) -> tuple[dict[str, DetectionDataset], dict[str, list[str]]]:
    """The splits that are not all of two or more smaller ones, and of what those that are consist."""
    kept = dict(sorted(datasets.items(), key=lambda item: len(item[1])))
    unions: dict[str, list[str]] = {}
    for name in reversed(list(kept)):
        files = _files(datasets[name])
        parts = {
            other: found
            for other in kept
            if other != name and (found := _files(datasets[other])) <= files and found != files
        }
        if len(parts) > 1 and set().union(*parts.values()) == files:
            unions[name] = list(parts)
            del kept[name]
    return {name: datasets[name] for name in datasets if name in kept}, unions


def _files(dataset: DetectionDataset) -> set[str]:
    return {str(record.path) for record in dataset.records}

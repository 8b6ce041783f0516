"""COCO: `annotations/instances_<split>.json`, pictures in `<split>`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.values import is_fraction
from focus_detr.data.records import Record
from focus_detr.data.writing.changes import Changes
from focus_detr.data.writing.objects import Written, objects_of, widened
from focus_detr.data.writing.pictures import PictureCopies
from focus_detr.structures.masks import Runs

_NARROWEST = 0.02
"""Pixels; readers take half of it for no side."""


def write(splits: Mapping[str, DetectionDataset], folder: Path, changes: Changes) -> None:
    """Holds all that is read: ids, crowd flags, areas, polygons and masks."""
    (folder / "annotations").mkdir()
    for split, dataset in splits.items():
        place = folder / split
        place.mkdir()
        copies = PictureCopies(changes)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record in dataset.records:
            name = copies.copy(record.path, place).name
            width, height = record.size
            images.append({"id": record.image_id, "file_name": name, "width": width, "height": height})
            for each in objects_as_coco(record, dataset.category_ids, changes):
                annotations.append({"id": len(annotations) + 1, **each})
        changes.pictures[split] = len(images)
        changes.objects[split] = sum(not each["iscrowd"] for each in annotations)
        content = {
            "info": {},
            "images": images,
            "annotations": annotations,
            "categories": categories_of(dataset),
        }
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content), encoding="utf-8")


def categories_of(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """COCO's list of a data set's classes."""
    return [
        {"id": identifier, "name": name}
        for identifier, name in zip(dataset.category_ids, dataset.class_names, strict=True)
    ]


def objects_as_coco(record: Record, category_ids: Sequence[int], changes: Changes) -> list[dict[str, Any]]:
    """COCO's annotations of a picture whose size is known, without ids of their own."""
    return [
        {
            "image_id": record.image_id,
            "category_id": category_ids[each.label],
            **_shape(each, record.size, changes),
            "iscrowd": int(each.crowd),
        }
        for each in objects_of(record)
    ]


def _shape(each: Written, size: tuple[int, int], changes: Changes) -> dict[str, Any]:
    left, top, right, bottom = (round(side, 4) for side in widened(each.box_xyxy, size, _NARROWEST))
    if is_fraction(left, top, right, bottom):
        # Readers take it for a share of the picture.
        left, top, right, bottom = 0, 0, 1, 1
        changes.lose("[box|boxes] inside the first pixel [was|were] made as large as that pixel")
    width, height = round(right - left, 4), round(bottom - top, 4)
    found: dict[str, Any] = {
        "bbox": [left, top, width, height],
        "area": width * height if each.area is None else each.area,
    }
    rings = each.rings
    if rings is not None:
        found["segmentation"] = [ring.round(4).reshape(-1).tolist() for ring in rings]
    elif each.mask is not None and isinstance(each.mask.shape, Runs):
        found["segmentation"] = each.mask.to_coco((size[1], size[0]))
    return found

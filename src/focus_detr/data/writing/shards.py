"""Shards: `<split>-000000.tar` and so on, with categories.json beside them (see `data.formats.shards`)."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.shards import CATEGORIES
from focus_detr.data.writing.changes import Changes
from focus_detr.data.writing.coco import categories_of, objects_as_coco
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.images.archives import open_member

IMAGES = 1000
"""In a shard, when not told."""


def write(
    splits: Mapping[str, DetectionDataset], folder: Path, changes: Changes, images: int = IMAGES
) -> None:
    """Holds all that COCO does; a picture's own name is in its json."""
    for split, dataset in splits.items():
        write_shards(dataset, folder, split, images, changes)


def write_shards(
    dataset: DetectionDataset,
    folder: str | Path,
    split: str = "train",
    images: int = IMAGES,
    changes: Changes | None = None,
) -> list[Path]:
    """Write ``SPLIT-000000.tar`` and so on into ``folder``, with so many images each, and its categories.

    Picture files are taken as they are. Large data sets belong on as many shards as give files of 100 MB to
    1 GB: few to open, and enough to copy side by side.

    Raises:
        FocusDetrError: the folder holds such shards, or other categories.
    """
    folder = Path(folder)
    changes = Changes() if changes is None else changes
    if images < 1:
        raise FocusDetrError(f"images={images}: must be 1 or more in each shard")
    if found := sorted(folder.glob(f"{split}-*.tar")):
        raise FocusDetrError(f"{found[0]}: is there already; give another folder or split")
    categories = json.dumps(categories_of(dataset))
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / CATEGORIES
    if listed.is_file() and json.loads(listed.read_bytes()) != json.loads(categories):
        raise FocusDetrError(f"{listed}: lists other categories; give another folder")
    with whole_file(listed) as stream:
        stream.write(categories.encode())
    dataset.sizes()
    written = []
    for first in range(0, len(dataset.records), images):
        archive = folder / f"{split}-{first // images:06d}.tar"
        with whole_file(archive) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            for place, record in enumerate(dataset.records[first : first + images], first):
                width, height = record.size
                objects = objects_as_coco(record, dataset.category_ids, changes)
                entry: dict[str, Any] = {"id": record.image_id, "file_name": record.path.name}
                entry |= {"width": width, "height": height, "annotations": objects}
                picture = open_member(record.path) or io.BytesIO(record.path.read_bytes())
                _add(tar, f"{place:09d}{record.path.suffix.lower()}", picture.getvalue())
                _add(tar, f"{place:09d}.json", json.dumps(entry).encode())
                changes.pictures[split] += 1
                changes.objects[split] += sum(not each["iscrowd"] for each in objects)
        written.append(archive)
    return written


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))

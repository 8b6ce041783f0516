"""A data set's pictures and objects, written into shards (see `data.formats.shards`)."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.shards import CATEGORIES
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.images.archives import open_member


def write_shards(
    dataset: DetectionDataset, folder: str | Path, split: str = "train", images: int = 1000
) -> list[Path]:
    """Write ``SPLIT-000000.tar`` and so on into ``folder``, with so many images each, and its categories.

    Picture files are taken as they are. Large data sets belong on as many shards as give files of 100 MB to
    1 GB: few to open, and enough to copy side by side.

    Raises:
        FocusDetrError: the folder holds such shards, or other categories.
    """
    folder = Path(folder)
    if images < 1:
        raise FocusDetrError(f"images={images}: must be 1 or more in each shard")
    if found := sorted(folder.glob(f"{split}-*.tar")):
        raise FocusDetrError(f"{found[0]}: is there already; give another folder or split")
    named = zip(dataset.category_ids, dataset.class_names, strict=True)
    categories = json.dumps([{"id": identifier, "name": name} for identifier, name in named])
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / CATEGORIES
    if listed.is_file() and json.loads(listed.read_bytes()) != json.loads(categories):
        raise FocusDetrError(f"{listed}: lists other categories; give another folder")
    with whole_file(listed) as stream:
        stream.write(categories.encode())
    content = dataset.to_coco()
    objects: dict[int, list[dict[str, object]]] = {entry["id"]: [] for entry in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    written = []
    for first in range(0, len(dataset.records), images):
        archive = folder / f"{split}-{first // images:06d}.tar"
        with whole_file(archive) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            for position in range(first, min(first + images, len(dataset.records))):
                record, entry = dataset.records[position], content["images"][position]
                picture = open_member(record.path) or io.BytesIO(record.path.read_bytes())
                described = {**entry, "file_name": record.path.name, "annotations": objects[entry["id"]]}
                key = f"{position:09d}"
                _add(tar, f"{key}{record.path.suffix.lower()}", picture.getvalue())
                _add(tar, f"{key}.json", json.dumps(described).encode())
        written.append(archive)
    return written


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))

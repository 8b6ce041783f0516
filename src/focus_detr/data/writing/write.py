"""write_dataset(): splits as a folder in one of the formats, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.naming import portable
from focus_detr.data.writing import coco, shards, voc, yolo
from focus_detr.data.writing.changes import Changes
from focus_detr.disk import explained_disk, only_run
from focus_detr.errors import FocusDetrError
from focus_detr.folders import unused_folder

_WRITERS = {"coco": coco.write, "yolo": yolo.write, "voc": voc.write, "shards": shards.write}
FORMATS = tuple(_WRITERS)
LIST = "CHANGES.txt"


def write_dataset(
    splits: Mapping[str, DetectionDataset],
    folder: str | os.PathLike[str],
    format: str,
    changes: Changes | None = None,
    title: str = "",
    originals: Sequence[str | os.PathLike[str]] = (),
    shard_images: int | None = None,
) -> Changes:
    """Writes a data set, with copies of its pictures, and the list of changes as CHANGES.txt.

    Args:
        splits: by name, all with the same classes.
        folder: new or empty, and not inside one that the pictures are of.
        format: coco, yolo, voc or shards.
        changes: made so far, to which those of writing are added.
        title: of the list.
        originals: more folders that it must not lie in.
        shard_images: pictures in a shard, where the format is shards; 1000 when None.

    Raises:
        FocusDetrError: an unknown format, a folder in use, a split that the format cannot name, no room.
    """
    if format not in _WRITERS:
        raise FocusDetrError(f"format {format!r}: must be one of {', '.join(FORMATS)}")
    writer = _WRITERS[format]
    if shard_images is not None:
        if format != "shards" or shard_images < 1:
            raise FocusDetrError(f"shard_images={shard_images}: must be 1 or more; goes with shards alone")
        writer = partial(shards.write, images=shard_images)
    target = unused_folder(folder).absolute()
    _outside(target, [*(dataset.name for dataset in splits.values()), *originals])
    changes = Changes() if changes is None else changes
    part = target.with_name(f".{target.name}.part")
    with only_run(part):
        try:
            for left in part.iterdir():  # by a run that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            with explained_disk(target):
                named = {portable(split).replace("+", "_") or "all": data for split, data in splits.items()}
                writer({split: _readable(data) for split, data in named.items()}, part, changes)
                (part / LIST).write_text(changes.text(title or f"Written as {format}."), encoding="utf-8")
                os.replace(part, target)
        except OSError as error:
            raise FocusDetrError(f"{target}: cannot be written ({error})") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return changes


def _outside(target: Path, originals: Sequence[str | os.PathLike[str]]) -> None:
    """Raises where the copy would lie in an original, which is never changed."""
    for original in originals:
        root = Path(original).resolve()
        root = root.parent if root.is_file() else root
        if root in (place := target.resolve(), *place.parents):
            raise FocusDetrError(f"{target}: lies in the data set itself, {root}; give a place outside")


def _readable(dataset: DetectionDataset) -> DetectionDataset:
    """Without the pictures whose size nobody can read."""
    sizes = dataset.sizes()
    kept = [replace(record) for record, size in zip(dataset.records, sizes, strict=True) if size]
    return dataset.with_records(kept)

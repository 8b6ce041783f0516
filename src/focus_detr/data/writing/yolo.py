"""YOLO: `data.yaml`, pictures in `images/<split>`, rows of fractions in `labels/<split>`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.writing.changes import Changes
from focus_detr.data.writing.objects import Written, objects_of
from focus_detr.data.writing.pictures import PictureCopies
from focus_detr.errors import FocusDetrError

_KEYS = ("train", "val", "valid", "validation", "test", "minival")
NARROWEST = 2e-5
"""Share of a picture; readers that take single precision take half of it for no side."""
_APART = 0.5  # pixels that a polygon's own box may differ from the stated one


def write(splits: Mapping[str, DetectionDataset], folder: Path, changes: Changes) -> None:
    """Holds boxes, and polygons of one ring; what it does not is counted in ``changes``."""
    keys = _keys(list(splits))
    first = next(iter(splits.values()))
    content: dict[str, object] = {keys[split]: f"images/{keys[split]}" for split in splits}
    content |= {"nc": len(first.class_names), "names": dict(enumerate(first.class_names))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    for split, dataset in splits.items():
        images, labels = folder / "images" / keys[split], folder / "labels" / keys[split]
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        copies = PictureCopies(changes)
        for record in dataset.records:
            copy = copies.copy(record.path, images)
            written = list(objects_of(record))
            rows = [_row(each, record.size, changes) for each in written if not each.crowd]
            (labels / f"{copy.stem}.txt").write_text("".join(rows), encoding="utf-8")
            changes.objects[split] += len(rows)
            changes.lose(
                "crowd [region was left out: it is|regions were left out: they are] background now",
                len(written) - len(rows),
            )
            areas = sum(each.says_area for each in written if not each.crowd)
            changes.lose(
                "[area other than that of its box was|areas other than those of boxes were] left out", areas
            )
        changes.pictures[split] = len(dataset)
        if keys[split] != split:
            changes.changed.append(f"the split {split!r} is called {keys[split]!r}, which YOLO knows")


def _keys(splits: list[str]) -> dict[str, str]:
    """What YOLO calls each split."""
    from focus_detr.data.formats.recognise import short_split_name

    keys = {}
    for split in splits:
        short = short_split_name(split)
        keys[split] = split if split in _KEYS else short if short in _KEYS else ""
    if len(splits) == 1 and not keys[splits[0]]:
        keys[splits[0]] = "train"
    if "" in keys.values() or len(set(keys.values())) < len(keys):
        wrong = next((split for split, key in keys.items() if not key), splits[-1])
        raise FocusDetrError(
            f"split {wrong!r}: YOLO names its splits {', '.join(_KEYS)}, each once; write one split "
            "(--split), or take --to coco or voc"
        )
    return keys


def _row(each: Written, size: tuple[int, int], changes: Changes) -> str:
    scale = np.asarray(size, dtype=np.float64)
    box = np.asarray(each.box_xyxy, dtype=np.float64).reshape(2, 2)
    values = _polygon(each, box, scale, changes)
    if values is None:
        low, high = box / scale
        side = np.maximum(high - low, NARROWEST)
        centre = ((low + high) / 2).clip(side / 2, 1 - side / 2)
        values = np.concatenate([centre, side])
    return f"{each.label} {' '.join(f'{value:.8f}'.rstrip('0').rstrip('.') for value in values.clip(0, 1))}\n"


def _polygon(each: Written, box: np.ndarray, scale: np.ndarray, changes: Changes) -> np.ndarray | None:
    """The fractions of a polygon that says all of an object's shape and box; None where none does."""
    if each.mask is None:
        return None
    rings = each.rings
    if rings is None:
        changes.lose("[mask of pixels became a box|masks of pixels became boxes]")
    elif len(rings) > 1:
        changes.lose("[object of several polygons became a box|objects of several polygons became boxes]")
    elif np.abs([rings[0].min(0) - box[0], rings[0].max(0) - box[1]]).max() > _APART:
        changes.lose("polygon[|s] [was|were] left out, around which the stated box is another")
    else:
        values = (rings[0] / scale).clip(0, 1).round(8).reshape(-1)
        if not _reads_as_keypoints(values):
            return values
        changes.lose("polygon[|s] [was|were] left out, whose numbers read as keypoints")
    return None


def _reads_as_keypoints(values: np.ndarray) -> bool:
    """Whether readers take the numbers of an open polygon for a box, and points with 0 or 1 for seen or not:
    so they can be where it runs along the edges of the picture."""
    flags = values[6::3]
    closed = np.array_equal(values[:2], values[-2:])
    return len(flags) >= 2 and len(values) == 4 + 3 * len(flags) and not closed and set(flags) <= {0.0, 1.0}

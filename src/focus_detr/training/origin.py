"""What a run was started with, beside its recipe: ``run.yaml``, which going on with it looks at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from focus_detr import __version__
from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.plain_yaml import load_plain

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset

FILE = "run.yaml"


def describe_data(dataset: DetectionDataset | None) -> dict[str, Any] | None:
    """Numbers that differ where images, boxes or classes do, and not where the folder is another."""
    if dataset is None:
        return None
    digest = hashlib.sha256(repr(list(dataset.class_names)).encode())
    for record in dataset.records:
        digest.update(os.fsencode(record.path.name))
        digest.update(str(record.path.stat().st_size if record.path.is_file() else None).encode())
        for array in (record.boxes, record.labels, record.ignored):
            digest.update(repr(array.shape).encode() + array.tobytes())
    return {
        "name": dataset.name,
        "images": len(dataset.records),
        "objects": sum(len(record.labels) for record in dataset.records),
        "digest": digest.hexdigest()[:16],
    }


def read_origin(output: Path) -> dict[str, Any]:
    """What `write_origin` wrote; empty where there is nothing, or nothing readable."""
    try:
        origin = load_plain((output / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return origin if isinstance(origin, dict) else {}


def write_origin(output: Path, model: str | None, datasets: Sequence[DetectionDataset | None]) -> None:
    train, evaluation = map(describe_data, datasets)
    origin = {"version": __version__, "model": model, "training_data": train, "evaluation_data": evaluation}
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / FILE) as stream:
        stream.write(yaml.safe_dump(origin, sort_keys=False).encode())


def refuse_other_data(output: Path, datasets: Sequence[DetectionDataset | None]) -> None:
    """Raise `FocusDetrError` where the run in ``output`` had other images, boxes or classes."""
    origin = read_origin(output)
    for key, dataset in zip(("training_data", "evaluation_data"), datasets, strict=True):
        if key not in origin or (before := origin[key]) == (now := describe_data(dataset)):
            continue
        if before and now and before.get("digest") == now["digest"]:
            continue  # moved, or named otherwise
        raise FocusDetrError(
            f"{output}: the run had other data: its {key.replace('_', ' ')} were {_said(before)}, now "
            f"they are {_said(now)}. Resume with the run's own data, or start a new run from its last model"
        )


def _said(data: Any) -> str:
    if not isinstance(data, dict):
        return "none"
    return f"{data.get('images')} images with {data.get('objects')} objects ({data.get('name')})"

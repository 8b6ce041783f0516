"""What can be told about a teacher: which it is, and how much each of its answers counts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.models.options import check_ranges
from focus_detr.models.registry import read_options

_WEIGHTS = ("logits", "boxes", "features", "foreground")


@dataclass(frozen=True)
class TeacherOptions:
    """The recipe's ``teacher``."""

    model: str = ""
    """A trained model: bundled or published name, folder, hub id, or exported file (YOLOX's and PicoDet's,
    too)."""
    logits: float = 1.0
    """How much class scores count of what the teacher found, against those of the queries matched to it,"""
    boxes: float = 1.0
    """their boxes, as far as the teacher is sure of an object,"""
    features: float = 0.0
    """the encoder's output at the tokens that the student kept,"""
    foreground: float = 0.0
    """and the foreground scores of all tokens."""
    least_score: float = 0.1
    """What the teacher found with a lower score is not learned."""
    most: int = 100
    """Objects of an image that are learned, the best."""
    once: bool = False
    """Whether the teacher looks at each picture once, as it is, before training; what it found is kept on
    disk, and moves as augmentation moves the objects. Exported models always do."""
    budget: float = 0.0
    """The share of tokens that the teacher works on; 0 is its own."""
    classes: dict[str, str] = field(default_factory=dict)
    """What of the teacher's classes is which of the data's, as in {car: vehicle, truck: vehicle}, where they
    have other names."""
    names: str = ""
    """Of a detector that others exported: its classes, in its order, with commas between; COCO's where it has
    80."""


def read_teacher(values: Mapping[str, Any]) -> TeacherOptions | None:
    """The recipe's ``teacher``, or None where there is none.

    Raises:
        FocusDetrError: a key is unknown, a value unusable, or nothing of the teacher's is compared.
    """
    if not values:
        return None
    options = read_options(TeacherOptions, dict(values), "teacher")
    if not options.model:
        raise FocusDetrError("teacher: names no model; add model, or give --teacher MODEL")
    ranges: dict[str, tuple[float, float]] = {name: (0, math.inf) for name in _WEIGHTS}
    check_ranges(options, "teacher", least_score=(0, 1), most=(1, 10_000), budget=(0, 1), **ranges)
    if not any(getattr(options, name) for name in _WEIGHTS):
        raise FocusDetrError(
            f"teacher: nothing of {options.model!r} is compared; give one of {', '.join(_WEIGHTS)} a weight"
        )
    return options


def digest_of(path: Path, options: TeacherOptions) -> str:
    """What differs where a teacher's answers may: its folder or exported file, and how it is asked."""
    digest = hashlib.sha256(f"{options.budget}{sorted(options.classes.items())}{options.names}".encode())
    files = [*path.glob("*.json"), *path.glob("*.safetensors")]
    if path.is_file():
        files = [each for each in (path, path.with_suffix(".bin")) if each.is_file()]
    for file in sorted(files):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()

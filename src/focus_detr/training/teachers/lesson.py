"""What a teacher says of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from focus_detr.losses.distillation import TaughtObjects
from focus_detr.models.detector import FocusDetrOutput


@dataclass(frozen=True)
class Lesson:
    """What is learned of a batch.

    Attributes:
        objects: that the teacher found.
        answer: the teacher's own output, of one that looked at the batch.
    """

    objects: TaughtObjects
    answer: FocusDetrOutput | None = None

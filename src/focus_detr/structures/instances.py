"""The objects of one image, all that is known of each: what records, samples and detections hold."""

# Shapes: T objects, k classes.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.structures.masks import as_array


@dataclass(frozen=True, eq=False)
class Instances:
    """T objects. Every field has a row for each of them, or is None where nobody knows it.

    A further fact of an object (a mask, the number of a track) is one more field here, None by default, with
    the object in its first dimension: selection, copies, mosaics, transforms and the collator's labels then
    take it along. If it lies in the picture, as a mask does, `transform` has to move it too.

    Attributes:
        boxes_xyxy: (T,4), pixels, float32 unless said otherwise.
        labels: (T,) int64.
        scores: (T,) 0..1, of objects that were found.
        areas: (T,) square pixels, of the object and not its box, where a source gives them.
        queries: (T,) int64, the decoder's queries that found them.
        track_ids: (T,) int64, the same from frame to frame of a video, -1 where there is none yet.
        class_logits: (T,k), what a teacher says of each class (see `focus_detr.training.teachers`).
        masks: (T,) objects, a `Mask` each, None for one whose mask nobody knows.

    Raises `FocusDetrError` where the fields are not of as many objects.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    areas: np.ndarray | None = None
    queries: np.ndarray | None = None
    track_ids: np.ndarray | None = None
    masks: np.ndarray | None = None
    class_logits: np.ndarray | None = None

    def __post_init__(self) -> None:
        counts = {name: len(value) for name, value in self.known().items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} of {count}" for name, count in counts.items())
            raise FocusDetrError(f"the fields are not of as many objects: {said}")

    @classmethod
    def empty(cls) -> Self:
        return cls(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64))

    @staticmethod
    def concatenate(parts: Sequence[Instances]) -> Instances:
        """The objects of all parts, of which there is one at least; a field that objects of one lack is
        None."""
        parts = [part for part in parts if len(part)] or list(parts[:1])
        joined: dict[str, Any] = {}
        for field in fields(parts[0]):
            values: list[Any] = [getattr(part, field.name, None) for part in parts]
            joined[field.name] = None if any(value is None for value in values) else np.concatenate(values)
        return replace(parts[0], **joined)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray | slice | Sequence[int]) -> Self:
        """Those of a mask (T,) or of indices, in their order."""
        return self._each(lambda values: values[chosen])

    def known(self) -> dict[str, np.ndarray]:
        """The fields that are not None, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def copy(self) -> Self:
        return self._each(np.copy)

    def transform(
        self,
        size: tuple[float, float],
        scale: tuple[float, float] = (1, 1),
        shift: tuple[float, float] = (0, 0),
        min_visible: float = 0.0,
    ) -> Self:
        """The objects in a picture of `size` (width, height), where a point x has become scale * x + shift.

        They are clipped to it; those left empty, or with less than the share `min_visible` of their box, go.
        """
        whole = _affine(self.boxes_xyxy, scale, shift)
        boxes, kept = clip_to(whole, size)
        kept &= _box_areas(boxes) >= min_visible * _box_areas(whole)
        visible = replace(self[kept], boxes_xyxy=boxes[kept])
        if visible.masks is not None:
            moved = (mask and mask.transform(size, scale, shift) for mask in visible.masks)
            visible = replace(visible, masks=as_array(moved))
        if visible.areas is None:
            return visible
        # Of an object that is cut nobody knows the area left: it shrinks as its box does.
        return replace(
            visible,
            areas=visible.areas * (_box_areas(visible.boxes_xyxy) / _box_areas(self.boxes_xyxy[kept])),
        )

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        return replace(self, **{name: change(values) for name, values in self.known().items()})


def clip_to(boxes_xyxy: np.ndarray, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (T,4) clipped to (width, height), and which of them (T,) still have an area."""
    width, height = size
    clipped = np.clip(boxes_xyxy, 0, np.asarray([width, height, width, height], dtype=boxes_xyxy.dtype))
    kept = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    return clipped, kept


def _affine(boxes_xyxy: np.ndarray, scale: tuple[float, float], shift: tuple[float, float]) -> np.ndarray:
    corners = boxes_xyxy.reshape(-1, 2, 2) * np.asarray(scale, np.float32) + np.asarray(shift, np.float32)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def _box_areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])

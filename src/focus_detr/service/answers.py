"""What one picture's answer holds, of what the model gave for its batch."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from focus_detr.inference.looking import places_looked_at
from focus_detr.inference.results import Detections

_HEATMAP_SIDE = 320
"""Pixels; there are fewer tokens, and browsers make it as smooth at any size."""


@dataclass(frozen=True)
class Wanted:
    """What a request asks of a picture.

    Attributes:
        threshold: None for the model's own.
        classes: names; None for all.
        budget: a share, or "auto"; None for the model's own.
        heatmap: whether a picture of the foreground score is wanted.
        where: whether the places that the decoder looked at are.
    """

    threshold: float | None = None
    classes: tuple[str, ...] | None = None
    budget: float | str | None = None
    heatmap: bool = False
    where: bool = False


@dataclass(frozen=True)
class Found:
    """What a model found in one picture.

    Attributes:
        places: (T,S,3) x, y in pixels and weight, where the query of each of the objects looked.
        scores: foreground scores (H_l,W_l) by level.
        kept: mean share of tokens that encoder layers worked on.
        batch: pictures that went through the model with it, itself included.
        waited, took: seconds before the model, and in it.
    """

    detections: Detections
    places: np.ndarray | None
    scores: list[np.ndarray] | None
    kept: float | None
    batch: int = 1
    waited: float = 0.0
    took: float = 0.0

    @classmethod
    def of(cls, outputs: Any, index: int, detections: Detections, wanted: Wanted) -> Found:
        """Of image ``index`` of a batch's outputs; nothing in it refers to them."""
        places, scores = None, None
        queries = detections.instances.queries
        if wanted.where and queries is not None:
            places = places_looked_at(outputs, index, queries, detections.image_size)
        if wanted.heatmap:
            from focus_detr.pictures.heatmap import foreground_scores

            scores = foreground_scores(outputs, index)
        return cls(detections, places, scores, mean_share_kept(outputs, index))

    def to_dict(self) -> dict[str, Any]:
        """`image`, `kept`, `detections` and `heatmap` of an answer."""
        height, width = self.detections.image_size
        answer: dict[str, Any] = {
            "image": {"width": width, "height": height},
            "kept": self.kept,
            "detections": self._objects(),
        }
        if self.scores is not None:
            answer["heatmap"] = heatmap_address(self.scores, (width, height))
        return answer

    def _objects(self) -> list[dict[str, Any]]:
        found = self.detections
        objects: list[dict[str, Any]] = [
            {
                "class": name,
                "label": int(label),
                "score": round(float(score), 6),
                "box": [round(value, 2) for value in box],
            }
            for name, label, score, box in zip(
                found.class_names, found.labels, found.scores, found.boxes_xyxy.tolist(), strict=True
            )
        ]
        if found.masks is not None:
            for each, mask in zip(objects, found.masks, strict=True):
                each["mask"] = mask.to_coco(found.image_size)
        if self.places is not None:
            for each, places in zip(objects, self.places, strict=True):
                # The most looked at come first; those beyond the picture saw nothing.
                order = np.argsort(-places[:, 2], kind="stable")
                each["where"] = [
                    [round(x, 1), round(y, 1), round(w, 5)] for x, y, w in places[order].tolist()
                ]
        return objects


def mean_share_kept(outputs: Any, index: int) -> float | None:
    """Mean share of an image's tokens that encoder layers worked on; None for models that tell no plan."""
    plan = getattr(outputs, "plan", None)
    if plan is None:
        return None
    sizes = outputs.spatial_shapes if outputs.level_sizes is None else outputs.level_sizes[index].tolist()
    tokens = sum(height * width for height, width in sizes)
    counts = plan.counts if plan.valid_counts is None else plan.valid_counts[index].tolist()
    return round(min(1.0, math.fsum(counts) / len(counts) / tokens), 4)


def heatmap_address(scores: list[np.ndarray], size: tuple[int, int]) -> str:
    """A PNG of the foreground scores over a picture of (width, height), as a data address."""
    from focus_detr.pictures.heatmap import score_overlay

    scale = min(1.0, _HEATMAP_SIDE / max(size))
    smaller = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    stream = io.BytesIO()
    score_overlay(scores, smaller).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

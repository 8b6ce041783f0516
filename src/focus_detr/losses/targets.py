"""Targets: the objects of a batch in one table, and which prediction answers for which of them."""

# Shapes: B images, T objects of the richest image, Q queries, k classes, M matches of a batch.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focus_detr.structures.boxes import cxcywh_to_xyxy, intersection_over_union

Labels = list[dict[str, Tensor]]


@dataclass
class Targets:
    """The objects of every image, as many rows an image as the richest one has.

    Attributes:
        classes: (B,T) int64; boxes: (B,T,4) boxes_cxcywh; zeros beyond an image's own objects.
        counts: objects of each image, known on the host.
    """

    classes: Tensor
    boxes: Tensor
    counts: list[int]

    @classmethod
    def of(cls, labels: Labels) -> Targets:
        """From the labels of a batch (see `FocusDetrForObjectDetection.forward`)."""
        return cls(
            pad_sequence([label["class_labels"] for label in labels], batch_first=True),
            pad_sequence([label["boxes"] for label in labels], batch_first=True),
            [len(label["class_labels"]) for label in labels],
        )

    def as_one_class(self) -> Targets:
        """The same objects, all of class 0."""
        return replace(self, classes=torch.zeros_like(self.classes))


class Joint(Protocol):
    """What else predictions say of objects, by which they are matched, and which their matches teach."""

    def of_queries(self, which: slice) -> Joint:
        """That of some of the queries."""
        ...

    def costs(self, boxes: Tensor) -> Tensor:
        """(B,Q,T), what it costs that queries with boxes_cxcywh (B,Q,4) answer for objects."""
        ...

    def losses(self, boxes: Tensor, matches: Matches, count: Tensor) -> dict[str, Tensor]:
        """By name and already weighted; sums over the matches, divided by ``count``."""
        ...


@dataclass
class Predictions:
    """One set of predictions, each object of which is to be matched to one.

    Attributes:
        logits: (B,Q,k); boxes: (B,Q,4) boxes_cxcywh.
        targets: what they are to find.
        suffix: of the names of their losses.
        valid: (B,Q), those that count; None for all.
        joint: what heads say beside, by their names.
    """

    logits: Tensor
    boxes: Tensor
    targets: Targets
    suffix: str = ""
    valid: Tensor | None = None
    joint: Mapping[str, Joint] = field(default_factory=dict)


@dataclass
class Matches:
    """Which prediction answers for which object: M of them in a batch.

    Attributes:
        image, query, object: (M,) int64; the object is a row of its image's targets.
    """

    image: Tensor
    query: Tensor
    object: Tensor

    @classmethod
    def on_device(cls, tables: Sequence[np.ndarray], device: torch.device) -> list[Matches]:
        """Tables (3,M) of image, query and object, made on the host; all of them in one copy."""
        joint = torch.from_numpy(np.concatenate([np.zeros((3, 0), np.int64), *tables], 1))
        joint = joint.to(device, non_blocking=True)
        return [cls(*part) for part in joint.split([table.shape[1] for table in tables], 1)]


def repeated_matches(each: Predictions, one: Matches, least: float) -> Matches:
    """Beside its own prediction, each object is answered for by others that overlap it by ``least`` (IoU).

    One-to-many, as detectors match whose duplicates are suppressed afterwards. Objects share half of the
    predictions, those that overlap them most: were there no end to them, what covers much of a picture would
    take all queries, and what is small and rare would get none to be learned from.

    Args:
        one: every object's own prediction, one-to-one.
    """
    boxes, objects = cxcywh_to_xyxy(each.boxes.detach()), cxcywh_to_xyxy(each.targets.boxes)
    if not objects.shape[1]:
        return one
    overlap = intersection_over_union(boxes[:, :, None], objects[:, None].to(boxes.dtype))  # (B,Q,T)
    counts = torch.tensor(each.targets.counts, device=boxes.device)
    real = torch.arange(objects.shape[1], device=boxes.device) < counts[:, None]  # (B,T)
    most, nearest = overlap.masked_fill(~real[:, None], -1.0).max(-1)  # (B,Q) both
    answers = most >= least
    if each.valid is not None:
        answers = answers & each.valid
    # Of those that answer for the same object, how many overlap it more, or as much and come first: (B,Q).
    same = (nearest[:, :, None] == nearest[:, None]) & answers[:, None]
    earlier = torch.ones_like(same[0]).tril(-1)
    ahead = (most[:, None] > most[:, :, None]) | ((most[:, None] == most[:, :, None]) & earlier)
    before = (same & ahead).sum(-1)
    answers = answers & (before < (boxes.shape[1] / (2 * counts.clamp(min=1)))[:, None])
    answers.index_put_((one.image, one.query), answers.new_ones(()))
    nearest[one.image, one.query] = one.object
    image, query = answers.nonzero(as_tuple=True)
    return Matches(image, query, nearest[image, query])


def denoising_matches(counts: Sequence[int], slots: int, groups: int) -> np.ndarray:
    """(3,M) image, slot and object: a positive denoising slot answers for the object it came from."""
    tables = []
    for image, count in enumerate(counts):
        group, obj = np.divmod(np.arange(groups * count), max(count, 1))
        tables.append(np.stack([np.full(groups * count, image), group * slots + obj, obj]))
    return np.concatenate(tables, 1)

"""Distillation: how far a student's answers are from a teacher's, 0 where they agree.

Rows correspond: query by query where both started from the same ones, and else by matching what the teacher
is sure of to the student's queries (DETRDistill, Chang et al., ICCV 2023). Teachers are not taught.
"""

# Shapes: B images, Q queries, T objects of a teacher, k classes, N tokens of all levels, K kept, C channels,
# R tokens that are related to one another.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focus_detr.losses.matcher import assigned
from focus_detr.losses.targets import Matches
from focus_detr.losses.whole_step import mean_of_processes
from focus_detr.structures.boxes import cxcywh_to_xyxy, generalized_iou
from focus_detr.structures.rows import gather_rows

_RELATED = 256  # tokens of an image: their relations are the square of it
_LEAST_LOGIT = -1e4  # below it a query stands for no token of its image


@dataclass
class TaughtObjects:
    """What a teacher found, as many rows an image as the richest one has.

    Attributes:
        logits: (B,T,k) of the student's classes, in their order; one more, "no object", last, where classes
            exclude each other.
        boxes: (B,T,4) boxes_cxcywh.
        counts: of each image, which come first.
    """

    logits: Tensor
    boxes: Tensor
    counts: list[int]

    @classmethod
    def of_queries(
        cls, logits: Tensor, boxes: Tensor, softmax: bool, least_score: float, most: int
    ) -> TaughtObjects:
        """Of logits (B,Q,k) and boxes (B,Q,4): the best ``most`` queries, those of a score that high."""
        scores = sureness(logits, softmax)
        best = scores.topk(min(most, scores.shape[1]), 1)
        counts = (best.values >= least_score).sum(1).tolist()
        rows = best.indices[:, : max(counts)]
        return cls(gather_rows(logits, rows), gather_rows(boxes, rows), counts)

    @classmethod
    def of_images(cls, images: Sequence[tuple[Tensor, Tensor]]) -> TaughtObjects:
        """Of logits (T,k) and boxes_cxcywh (T,4) of each image."""
        logits, boxes = (pad_sequence([each[part] for each in images], batch_first=True) for part in (0, 1))
        return cls(logits, boxes, [len(each) for each, _ in images])


@dataclass
class RowWeights:
    """What a box's L1 distance and 1 - GIoU count."""

    bbox: float = 5.0
    giou: float = 2.0


def row_losses(
    logits: Tensor,
    boxes: Tensor,
    wanted: Tensor,
    wanted_boxes: Tensor,
    softmax: bool,
    weights: RowWeights,
) -> tuple[Tensor, Tensor]:
    """Of class scores and of boxes, both divided by how many objects the teacher is sure of.

    Args:
        logits, wanted: (...,k), the student's and the teacher's; boxes, wanted_boxes: (...,4) boxes_cxcywh of
            the same rows, which count as far as the teacher is sure of an object.
    """
    apart, sure = divergence(logits, wanted, softmax)
    boxes, wanted_boxes = exact(boxes), exact(wanted_boxes.detach())
    overlap = generalized_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted_boxes))
    distance = weights.bbox * (boxes - wanted_boxes).abs().sum(-1)
    distance = distance + weights.giou * (1 - overlap)
    count = mean_of_processes(sure.sum())
    return apart.sum() / count, (sure * distance).sum() / count


def matched_losses(
    logits: Tensor, boxes: Tensor, objects: TaughtObjects, softmax: bool, weights: RowWeights
) -> tuple[Tensor, Tensor]:
    """`row_losses` of queries, logits (B,Q,k) and boxes (B,Q,4), that answer for a teacher's objects."""
    matches = matched(logits, boxes, objects, softmax, weights)
    own, taught = (matches.image, matches.query), (matches.image, matches.object)
    return row_losses(
        logits[own], boxes[own], objects.logits[taught], objects.boxes[taught], softmax, weights
    )


@torch.no_grad()
def matched(
    logits: Tensor, boxes: Tensor, objects: TaughtObjects, softmax: bool, weights: RowWeights
) -> Matches:
    """Which query answers for which of a teacher's objects: at the least total cost, which is what it would
    have to learn. Where queries and objects are the same, each answers for itself."""
    logits, boxes, wanted = exact(logits), exact(boxes), exact(objects.logits)
    entropy = _entropy(wanted, softmax)[:, None]  # (B,1,T)
    if softmax:
        cross = -logits.log_softmax(-1) @ wanted.softmax(-1).transpose(1, 2)  # (B,Q,T)
    else:
        present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
        probability = wanted.sigmoid().transpose(1, 2)
        cross = -(present @ probability + absent @ (1 - probability))
    corners, others = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(exact(objects.boxes))
    cost = cross - entropy + weights.bbox * torch.cdist(boxes, exact(objects.boxes), p=1)
    cost = cost + weights.giou * (1 - generalized_iou(corners[:, :, None], others[:, None]))
    valid = (logits.amax(-1) > _LEAST_LOGIT).to(cost.dtype)
    table = assigned(torch.cat([cost, valid[..., None]], -1).double().cpu().numpy(), objects.counts)
    return Matches.on_device([table], boxes.device)[0]


def divergence(student: Tensor, teacher: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    """How far class scores (...,k) are from the teacher's, 0 where they agree; and how sure it is of objects.

    The Kullback-Leibler divergence (...), of each class by itself unless ``softmax``.
    """
    student, teacher = exact(student), exact(teacher.detach())
    if softmax:
        log_wanted = teacher.log_softmax(-1)
        apart = F.kl_div(student.log_softmax(-1), log_wanted, reduction="none", log_target=True)
        return apart.sum(-1), sureness(teacher, softmax)
    wanted = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(teacher, wanted, reduction="none")
    apart = F.binary_cross_entropy_with_logits(student, wanted, reduction="none") - entropy
    return apart.sum(-1), sureness(teacher, softmax)


def sureness(logits: Tensor, softmax: bool) -> Tensor:
    """(...), 0..1: how sure class scores (...,k) are of an object."""
    return 1 - logits.softmax(-1)[..., -1] if softmax else logits.sigmoid().amax(-1)


def feature_loss(student: Tensor, teacher: Tensor, kept: tuple[Tensor, Tensor] | None) -> Tensor:
    """How far memories (B,N,C) are apart at the tokens that the student kept.

    Squared distance, a mean over tokens and channels. Where channels are as many as they are in either, what
    is compared is how alike tokens are to one another (Tung and Mori, "Similarity-Preserving Knowledge
    Distillation", ICCV 2019), of some of them.

    Args:
        kept: tokens (B,K), and which of them count (B,K); None for all.
    """
    student, teacher = exact(student), exact(teacher.detach())
    if kept is None:
        indices = torch.arange(student.shape[1], device=student.device).expand(len(student), -1)
        kept = indices, torch.ones_like(indices, dtype=torch.bool)
    indices, counted = kept
    if student.shape[2] != teacher.shape[2]:
        return _relation_loss(student, teacher, indices, counted)
    apart = (gather_rows(student, indices) - gather_rows(teacher, indices)).square().mean(-1)  # (B,K)
    return (apart * counted).sum() / mean_of_processes(counted.sum().float())


def _relation_loss(student: Tensor, teacher: Tensor, indices: Tensor, counted: Tensor) -> Tensor:
    which = torch.linspace(0, indices.shape[1] - 1, min(_RELATED, indices.shape[1])).round().long()
    indices, counted = indices[:, which], counted[:, which].to(student.dtype)  # (B,R)
    rows = (F.normalize(gather_rows(each, indices), dim=-1) for each in (student, teacher))
    own, wanted = (each @ each.transpose(1, 2) for each in rows)  # (B,R,R)
    pairs = counted[:, :, None] * counted[:, None]
    return ((own - wanted).square() * pairs).sum() / mean_of_processes(pairs.sum())


def score_loss(student: Tensor, teacher: Tensor, valid: Tensor | None) -> Tensor:
    """How far foreground logits (B,N) are from the teacher's, a mean over the tokens that are ``valid``."""
    apart, _ = divergence(student[..., None], teacher[..., None], softmax=False)
    counted = torch.ones_like(apart) if valid is None else valid.to(apart.dtype)
    return (apart * counted).sum() / mean_of_processes(counted.sum())


def exact(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _entropy(logits: Tensor, softmax: bool) -> Tensor:
    if softmax:
        return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    return F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none").sum(-1)

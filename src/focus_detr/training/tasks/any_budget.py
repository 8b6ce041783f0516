"""Any budget: one set of weights for every share of tokens; the pass over all of them teaches sparse ones.

The sandwich rule of slimmable networks (Yu and Huang, "Universally Slimmable Networks", ICCV 2019): the
largest, the smallest and random members of the family are trained together, and the largest teaches the rest.
"""

# Shapes: B images, N tokens of all levels, K kept, C channels, Q queries, k classes.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from focus_detr.losses.whole_step import mean_of_processes
from focus_detr.models.detector import FocusDetrForObjectDetection, FocusDetrOutput
from focus_detr.models.options import check_ranges
from focus_detr.models.precision import without_autocast
from focus_detr.structures.boxes import cxcywh_to_xyxy, generalized_iou
from focus_detr.structures.budget import SMALLEST
from focus_detr.structures.rows import gather_rows
from focus_detr.training.tasks.base import TASKS, Step, Task


@dataclass(frozen=True)
class AnyBudgetOptions:
    """What can be told to training for any budget; see `Budget`."""

    smallest: float = SMALLEST
    """The least share of tokens that is trained."""
    passes: int = 1
    """Sparse passes a step, beside the one over all tokens; 0 trains that alone."""
    smallest_rate: float = 0.25
    """How often a pass has the smallest share; else it is random."""
    labels_weight: float = 1.0
    """How much the sparse passes' own detection losses count,"""
    logits_weight: float = 1.0
    """their class scores against the teacher's,"""
    boxes_weight: float = 1.0
    """their boxes against the teacher's,"""
    features_weight: float = 1.0
    """and what the encoder made of the tokens they kept, against what it made of them among all."""


@TASKS.register("any-budget")
class AnyBudgetTask(Task):
    """The detection loss over all tokens, and that of sparse passes over the same levels.

    Sparse passes start from the first one's queries, where the host can: query by query they are taught its
    class scores and, as far as it is sure of an object, its boxes.
    """

    options_class = AnyBudgetOptions
    options: AnyBudgetOptions

    def __init__(self, model: PreTrainedModel, device: torch.device, options: AnyBudgetOptions) -> None:
        super().__init__(model, device, options)
        weights = {name: (0, math.inf) for name in vars(options) if name.endswith("_weight")}
        check_ranges(
            options,
            "task_options",
            smallest=(SMALLEST, 1),
            passes=(0, 8),
            smallest_rate=(0, 1),
            **weights,
        )
        detector = cast(FocusDetrForObjectDetection, model)
        detector.encoder.accept(1.0)  # refused where a policy leaves nothing out
        self.config, host = detector.config, detector.host
        self.softmax = host.scoring == "softmax"
        # Learned queries are the same in all passes; those that a host finds in its memory must be handed on.
        self.corresponding = host.takes_start or not host.two_stage(detector.config)

    def draw(self, generator: torch.Generator) -> list[float]:
        """The shares of a step's sparse passes; the logarithm of a random one is uniform."""
        o = self.options
        drawn = torch.rand(o.passes, 2, generator=generator, dtype=torch.float64)
        random = (o.smallest ** (1 - drawn[:, 1])).clamp(o.smallest, 1.0)
        return torch.where(drawn[:, 0] < o.smallest_rate, o.smallest, random).tolist()

    def __call__(
        self, model: Callable[..., Any], batch: dict[str, Any], step: Step
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = model(**batch, budget=1.0, further=self.draw(step.generator))
        parts = dict(outputs.loss_dict)
        if outputs.further:
            with without_autocast(self.device):
                each = [self._taught(student, outputs) for student in outputs.further]
            parts |= {name: sum(losses[name] for losses in each) / len(each) for name in each[0]}
        return torch.stack(list(parts.values())).sum(), parts

    def _taught(self, student: FocusDetrOutput, teacher: FocusDetrOutput) -> dict[str, Tensor]:
        o, c = self.options, self.config
        assert student.loss is not None and student.logits is not None and student.pred_boxes is not None
        assert teacher.logits is not None and teacher.pred_boxes is not None
        parts = {
            "loss_sparse_labels": o.labels_weight * student.loss,
            "loss_sparse_features": o.features_weight * _feature_loss(student, teacher),
        }
        if self.corresponding:
            apart, sure = _divergence(student.logits, teacher.logits, self.softmax)  # (B,Q) both
            boxes, wanted = _exact(student.pred_boxes), _exact(teacher.pred_boxes.detach())
            overlap = generalized_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted))
            distance = c.bbox_loss_coefficient * (boxes - wanted).abs().sum(-1)
            distance = distance + c.giou_loss_coefficient * (1 - overlap)
            count = mean_of_processes(sure.sum())
            parts["loss_sparse_logits"] = o.logits_weight * apart.sum() / count
            parts["loss_sparse_boxes"] = o.boxes_weight * (sure * distance).sum() / count
        return parts


def _divergence(student: Tensor, teacher: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    """How far class scores (B,Q,k) are from the teacher's, 0 where they agree; and how sure it is of objects.

    The Kullback-Leibler divergence (B,Q), of each class by itself unless ``softmax``.
    """
    student, teacher = _exact(student), _exact(teacher.detach())
    if softmax:
        log_wanted = teacher.log_softmax(-1)
        apart = F.kl_div(student.log_softmax(-1), log_wanted, reduction="none", log_target=True)
        return apart.sum(-1), 1 - log_wanted[..., -1].exp()
    wanted = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(teacher, wanted, reduction="none")
    apart = F.binary_cross_entropy_with_logits(student, wanted, reduction="none") - entropy
    return apart.sum(-1), wanted.amax(-1)


def _feature_loss(student: FocusDetrOutput, teacher: FocusDetrOutput) -> Tensor:
    # Squared distance of the memories (B,N,C), a mean over the tokens that the sparse pass worked on.
    assert student.memory is not None and teacher.memory is not None and student.plan is not None
    if student.memory.shape != teacher.memory.shape:  # pooled tokens correspond to no others
        return student.memory.new_zeros(())
    indices, counted = student.plan.kept(0)
    kept, wanted = (gather_rows(_exact(each), indices) for each in (student.memory, teacher.memory.detach()))
    apart = (kept - wanted).square().mean(-1)  # (B,K)
    return (apart * counted).sum() / mean_of_processes(counted.sum().float())


def _exact(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))

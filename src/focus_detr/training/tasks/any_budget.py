"""Any budget: one set of weights for every share of tokens; the pass over all of them teaches sparse ones.

The sandwich rule of slimmable networks (Yu and Huang, "Universally Slimmable Networks", ICCV 2019): the
largest, the smallest and random members of the family are trained together, and the largest teaches the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from focus_detr.losses.distillation import RowWeights, feature_loss, row_losses
from focus_detr.models.detector import FocusDetrForObjectDetection, FocusDetrOutput
from focus_detr.models.options import check_ranges
from focus_detr.models.precision import without_autocast
from focus_detr.structures.budget import SMALLEST
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
    choice_weight: float = 1.0
    """Of models with `learned_budget`: what they expect to lose at these budgets, against what they do."""


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
        if student.plan is not None and student.plan.expected is not None:
            expected = student.plan.expected.mean()
            parts["loss_sparse_choice"] = o.choice_weight * F.smooth_l1_loss(
                expected, _excess(student, teacher)
            )
        if self.corresponding:
            classes, boxes = row_losses(
                student.logits,
                student.pred_boxes,
                teacher.logits,
                teacher.pred_boxes,
                self.softmax,
                RowWeights(c.bbox_loss_coefficient, c.giou_loss_coefficient),
            )
            parts["loss_sparse_logits"] = o.logits_weight * classes
            parts["loss_sparse_boxes"] = o.boxes_weight * boxes
        return parts


def _excess(student: FocusDetrOutput, teacher: FocusDetrOutput) -> Tensor:
    # How much higher the detection loss is that both passes have.
    assert student.loss_dict is not None and teacher.loss_dict is not None
    own = ("loss_foreground", "loss_reactivation", "loss_choice")
    both = [name for name in student.loss_dict if name in teacher.loss_dict and name not in own]
    more = [student.loss_dict[name] - teacher.loss_dict[name] for name in both]
    return torch.stack(more).sum().detach().clamp(min=0)


def _feature_loss(student: FocusDetrOutput, teacher: FocusDetrOutput) -> Tensor:
    assert student.memory is not None and teacher.memory is not None and student.plan is not None
    if student.memory.shape != teacher.memory.shape:  # pooled tokens correspond to no others
        return student.memory.new_zeros(())
    return feature_loss(student.memory, teacher.memory, student.plan.kept(0))

"""TaughtTask: a task whose model also learns from a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from focus_detr.data import DetectionDataset
from focus_detr.errors import FocusDetrError
from focus_detr.losses.distillation import (
    RowWeights,
    feature_loss,
    matched_losses,
    score_loss,
)
from focus_detr.models.detector import FocusDetrOutput
from focus_detr.models.hosts import HOSTS
from focus_detr.models.precision import without_autocast
from focus_detr.structures.geometry import Geometry
from focus_detr.training.finetuning import class_names_of
from focus_detr.training.tasks.base import Step, Task, TaskAround
from focus_detr.training.teachers.lesson import Lesson
from focus_detr.training.teachers.live import LiveTeacher
from focus_detr.training.teachers.once import OnceTeacher
from focus_detr.training.teachers.options import TeacherOptions
from focus_detr.zoo.resolve import resolve_model


def build_teacher(task: Task, options: TeacherOptions, model: PreTrainedModel, processor: Any) -> TaughtTask:
    """The task with a teacher beside it; ``processor`` is what makes the student's batches.

    Raises:
        FocusDetrError: there is no such teacher, or it cannot teach this student.
    """
    teacher: LiveTeacher | OnceTeacher
    if options.once or resolve_model(options.model).is_file():
        teacher = OnceTeacher(options, class_names_of(model.config), HOSTS[model.config.host].scoring)
    else:
        teacher = LiveTeacher(options, model, processor, task.device)
    return TaughtTask(task, teacher, options, model)


class TaughtTask(TaskAround):
    """Another task, whose first call of the model in a step is also compared with a teacher's answer.

    Args:
        task: what is trained for beside.
        teacher: answers the step's batch.
        model: the student, to look at.
    """

    def __init__(
        self, task: Task, teacher: LiveTeacher | OnceTeacher, options: TeacherOptions, model: PreTrainedModel
    ) -> None:
        super().__init__(task, model, options)
        self.teacher, self.config = teacher, model.config
        self.softmax = HOSTS[model.config.host].scoring == "softmax"
        self.weights = RowWeights(model.config.bbox_loss_coefficient, model.config.giou_loss_coefficient)

    def __call__(
        self, model: Callable[..., Any], batch: dict[str, Any], step: Step
    ) -> tuple[Tensor, dict[str, Tensor]]:
        answers: list[FocusDetrOutput] = []

        def watched(*arguments: Any, **named: Any) -> Any:
            output = model(*arguments, **named)
            answers.append(output)
            return output

        loss, parts = self.task(watched, batch, step)
        taught = self.teacher(batch)
        with without_autocast(self.device):
            more = self.compare(answers[0], taught)
        return loss + torch.stack(list(more.values())).sum(), {**parts, **more}

    def compare(self, student: FocusDetrOutput, taught: Lesson) -> dict[str, Tensor]:
        """The parts of the loss, already weighted."""
        o, parts = self.options, dict[str, Tensor]()
        if o.logits or o.boxes:
            assert student.logits is not None and student.pred_boxes is not None
            logits = self.teacher.classes.of_student(student.logits)
            classes, boxes = matched_losses(
                logits, student.pred_boxes, taught.objects, self.softmax, self.weights
            )
            parts |= {"loss_teacher_logits": o.logits * classes, "loss_teacher_boxes": o.boxes * boxes}
        if o.features:
            parts["loss_teacher_features"] = o.features * self._features(student, taught.answer)
        if o.foreground:
            parts["loss_teacher_foreground"] = o.foreground * self._foreground(student, taught.answer)
        return parts

    def _features(self, student: FocusDetrOutput, teacher: FocusDetrOutput | None) -> Tensor:
        assert teacher is not None and student.memory is not None and teacher.memory is not None
        if student.memory.shape[1] != teacher.memory.shape[1]:
            raise FocusDetrError(
                f"teacher.features={self.options.features}: the teacher has {teacher.memory.shape[1]} tokens "
                f"of a batch, the student {student.memory.shape[1]}; set it to 0"
            )
        kept = None if student.plan is None else student.plan.kept(0)
        return feature_loss(student.memory, teacher.memory, kept)

    def _foreground(self, student: FocusDetrOutput, teacher: FocusDetrOutput | None) -> Tensor:
        assert teacher is not None and student.plan is not None and student.plan.scores is not None
        assert teacher.plan is not None and teacher.plan.scores is not None
        assert student.spatial_shapes is not None and student.level_sizes is not None
        geometry = Geometry.padded(student.spatial_shapes, student.level_sizes)
        return score_loss(student.plan.scores, teacher.plan.scores, geometry.valid)

    def prepared(self, dataset: DetectionDataset, accelerator: Accelerator) -> DetectionDataset:
        dataset = super().prepared(dataset, accelerator)
        if isinstance(self.teacher, OnceTeacher):
            return self.teacher.with_answers(dataset, accelerator)
        return dataset

    def state_dict(self) -> dict[str, Any]:
        return {"task": self.task.state_dict(), "teacher": self.teacher.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["teacher"] != self.teacher.digest:
            raise FocusDetrError(
                f"the teacher {self.options.model!r} is not the one that the run began with; put that back"
            )
        self.task.load_state_dict(state["task"])

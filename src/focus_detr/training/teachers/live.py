"""A teacher that looks at each batch as the student does: a model of the family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.losses.distillation import TaughtObjects
from focus_detr.models.detector import FocusDetrOutput
from focus_detr.models.hosts import HOSTS
from focus_detr.training.finetuning import class_names_of
from focus_detr.training.teachers.classes import SharedClasses
from focus_detr.training.teachers.lesson import Lesson
from focus_detr.training.teachers.options import TeacherOptions, digest_of
from focus_detr.zoo.loading import load_image_processor, load_model
from focus_detr.zoo.resolve import resolve_model


class LiveTeacher:
    """A trained model that answers the student's own batches; it is not trained.

    Attributes:
        classes: those that it and the student know.
        digest: says whether a resumed run has the same teacher.
    """

    def __init__(
        self,
        options: TeacherOptions,
        student: PreTrainedModel,
        processor: Any,
        device: torch.device,
    ) -> None:
        folder = resolve_model(options.model)
        self.model = load_model(folder).to(device).eval().requires_grad_(False)
        self.options, self.budget = options, options.budget or None
        self.softmax = HOSTS[student.config.host].scoring == "softmax"
        if self.budget is not None:
            self.model.encoder.accept(self.budget)  # refused where a policy leaves nothing out
        _check_comparable(options, self.model, student)
        names = class_names_of(self.model.config)
        self.classes = SharedClasses.of(class_names_of(student.config), names, options.classes, options.model)
        if self.softmax and not self.classes.whole:
            raise FocusDetrError(
                f"teacher {options.model!r}: does not know all classes of the data, and the student's host "
                f"{student.config.host!r} scores them against each other; take a teacher that knows all"
            )
        self.digest = digest_of(folder, options)
        self.convert = _Converter(processor, load_image_processor(folder), device)

    @torch.no_grad()
    def __call__(self, batch: dict[str, Any]) -> Lesson:
        """What it says of a batch that was made for the student."""
        pixels = self.convert(batch["pixel_values"], batch["pixel_mask"])
        budget = {} if self.budget is None else {"budget": self.budget}
        answer: FocusDetrOutput = self.model(pixels, batch["pixel_mask"], **budget)
        assert answer.logits is not None and answer.pred_boxes is not None
        logits, o = self.classes.of_teacher(answer.logits, self.softmax), self.options
        objects = TaughtObjects.of_queries(logits, answer.pred_boxes, self.softmax, o.least_score, o.most)
        return Lesson(objects, answer)


class _Converter:
    """Pixels as one processor normalises them to those of another."""

    def __init__(self, own: Any, others: Any, device: torch.device) -> None:
        # x = scale * pixel + offset, channel by channel.
        (scale, offset), (wanted_scale, wanted_offset) = (
            (torch.as_tensor(each, dtype=torch.float64).flatten() for each in one.scale_and_offset())
            for one in (own, others)
        )
        factor = wanted_scale / scale
        shift = wanted_offset - factor * offset
        self.same = bool(torch.allclose(factor, torch.ones_like(factor)) and shift.abs().max() < 1e-6)
        self.factor, self.shift = (each.float().view(-1, 1, 1).to(device) for each in (factor, shift))

    def __call__(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Pixels (B,3,H,W), zero where the mask (B,H,W) is."""
        if self.same:
            return pixels
        return (pixels * self.factor + self.shift) * mask[:, None].to(pixels.dtype)


def _check_comparable(options: TeacherOptions, teacher: Any, student: Any) -> None:
    """Refuse a weight on what the two cannot be compared by."""
    own, others = student.config, teacher.config
    if options.logits or options.boxes:
        scorings = [HOSTS[each.host].scoring for each in (own, others)]
        if scorings[0] != scorings[1]:
            raise FocusDetrError(
                f"teacher {options.model!r}: its host {others.host!r} scores classes by {scorings[1]}, the "
                f"student's {own.host!r} by {scorings[0]}; take a teacher that scores as the student does"
            )
    needs_grid = [name for name in ("features", "foreground") if getattr(options, name)]
    if needs_grid and student.strides != teacher.strides:
        raise FocusDetrError(
            f"teacher.{needs_grid[0]}={getattr(options, needs_grid[0])}: the teacher's tokens are not the "
            f"student's (strides {teacher.strides} and {student.strides}); set it to 0"
        )
    if options.features and "poll-and-pool" in (own.token_policy, others.token_policy):
        raise FocusDetrError(
            f"teacher.features={options.features}: poll-and-pool's tokens are no others'; set it to 0"
        )
    if options.foreground:
        for model, whose in ((student, "the student's"), (teacher, "the teacher's")):
            if not model.encoder.selects:
                raise FocusDetrError(
                    f"teacher.foreground={options.foreground}: {whose} token_policy="
                    f"{model.config.token_policy!r} scores no tokens; set it to 0"
                )

"""Pictures without labels: the moving average of the weights says what is in them, and the weights learn it.

The average sees a picture that was hardly changed, the student the same with its colors distorted and parts
hidden; what the average is sure of counts as a label (Unbiased Teacher, Liu et al., ICLR 2021).
"""

# Shapes: B images, T objects.

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from PIL import ImageDraw
from torch import Tensor, nn
from transformers import PreTrainedModel

from focus_detr.data import Collator, DetectionDataset
from focus_detr.data.formats.searching import files_below, is_image_file
from focus_detr.data.records import Record, Sample
from focus_detr.data.transforms.draws import Draws
from focus_detr.data.transforms.geometric import (
    Compose,
    HorizontalFlip,
    PhotometricDistortion,
    Resize,
    Transform,
)
from focus_detr.errors import FocusDetrError
from focus_detr.models.options import check_ranges
from focus_detr.models.registry import read_options
from focus_detr.structures.boxes import xyxy_to_cxcywh
from focus_detr.structures.pixel_masks import HEAD
from focus_detr.training.finetuning import class_names_of
from focus_detr.training.recipe import Recipe
from focus_detr.training.tasks.base import Step, Task, TaskAround


@dataclass(frozen=True)
class UnlabelledOptions:
    """The recipe's ``unlabelled``."""

    folder: str = ""
    """Pictures, in it and below."""
    weight: float = 1.0
    """How much their loss counts; 0 leaves them out."""
    least_score: float = 0.5
    """What the average found with a lower score is no label."""
    ramp_up: float = 0.25
    """Share of the run over which the weight rises from nothing."""
    hidden: int = 3
    """Rectangles of a picture that the student does not see, at most."""


def read_unlabelled(values: Mapping[str, Any]) -> UnlabelledOptions | None:
    """The recipe's ``unlabelled``, or None where there is nothing to learn from it.

    Raises:
        FocusDetrError: a key is unknown, or a value unusable.
    """
    if not values:
        return None
    options = read_options(UnlabelledOptions, dict(values), "unlabelled")
    if not options.folder:
        raise FocusDetrError("unlabelled: names no folder; add folder, or give --unlabelled FOLDER")
    check_ranges(
        options, "unlabelled", weight=(0, math.inf), least_score=(0, 1), ramp_up=(0, 1), hidden=(0, 20)
    )
    return options if options.weight else None


@dataclass(frozen=True)
class HideParts:
    """Up to ``most`` grey rectangles, each of a tenth to a third of the sides; boxes stay."""

    most: int

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        image, rng = sample.image.copy(), draws.own
        pen = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(self.most + 1))):
            width, height = (max(1, int(side * rng.uniform(0.1, 0.33))) for side in image.size)
            left = int(rng.integers(image.width - width + 1))
            top = int(rng.integers(image.height - height + 1))
            pen.rectangle((left, top, left + width - 1, top + height - 1), fill=(114, 114, 114))
        return replace(sample, image=image)


class UnlabelledPictures:
    """Pictures of a folder in two views of one geometry; which ones a micro-batch has is a function of the
    seed and its number alone.

    Args:
        names: of the classes.
        share: pictures of a micro-batch, of one of ``processes``.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        recipe: Recipe,
        hidden: int,
        share: int,
        rank: int,
        processes: int,
    ) -> None:
        if not folder.is_dir():
            raise FocusDetrError(f"unlabelled {folder}: no such folder; give one that holds pictures")
        files = files_below(folder, is_image_file)
        if not files:
            raise FocusDetrError(f"unlabelled {folder}: holds no picture; give a folder that does")
        records = [Record(file, number) for number, file in enumerate(files)]
        self.dataset = DetectionDataset(records, list(names), list(range(len(names))), name=str(folder))
        self.seed, self.share, self.rank, self.processes = recipe.seed, share, rank, processes
        self.weak: Transform = Compose((HorizontalFlip(), Resize(recipe.image_size)))
        color = PhotometricDistortion(0.4, 0.4, 0.4, 0.05, probability=1.0)
        self.strong: Transform = Compose((color, HideParts(hidden)))
        listed = "".join(str(file.relative_to(folder)) for file in files)
        self.digest = hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()

    def views(self, number: int) -> tuple[list[Sample], list[Sample]]:
        """The pictures of the run's micro-batch of that number, for the teacher and for the student."""
        weak, strong = [], []
        first = (number * self.processes + self.rank) * self.share
        for position in range(first, first + self.share):
            again, place = divmod(position, len(self.dataset))
            order = np.random.default_rng([self.seed, again, 1]).permutation(len(self.dataset))
            draws = Draws.alone(self.seed, position, 2)
            seen = self.weak(self.dataset[int(order[place])], draws)
            weak.append(seen)
            hidden = self.strong(seen, draws)
            strong.append(replace(hidden, noise_seed=int(draws.own.integers(2**62))))
        return weak, strong


class UnlabelledTask(TaskAround):
    """Another task, with the loss of pictures whose labels the moving average gives."""

    def __init__(
        self,
        task: Task,
        options: UnlabelledOptions,
        pictures: UnlabelledPictures,
        model: PreTrainedModel,
        processor: Any,
        accumulation: int,
    ) -> None:
        super().__init__(task, model, options)
        self.pictures, self.processor = pictures, processor
        self.collator, self.accumulation = Collator(processor), accumulation
        self.most = getattr(model.config, "num_detections", 300)
        self.average: nn.Module | None = None
        self._micro_batch = (-1, 0)

    def begin(self, average: nn.Module | None) -> None:
        super().begin(average)
        self.average = average

    def __call__(
        self, model: Callable[..., Any], batch: dict[str, Any], step: Step
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = self.task(model, batch, step)
        number, done = self._micro_batch
        done = done + 1 if number == step.number else 0
        self._micro_batch = step.number, done
        weak, strong = self.pictures.views(step.number * self.accumulation + done)
        labels = self.label(weak)
        seen = send_to_device(self.collator(strong), self.device)
        for one, found in zip(seen["labels"], labels, strict=True):
            one |= found
        outputs = model(**seen)
        rising = min(1.0, (step.number + 1) / max(1.0, self.options.ramp_up * step.total))
        more = self.options.weight * rising * outputs.loss
        return loss + more, {**parts, "loss_unlabelled": more}

    @torch.no_grad()
    def label(self, samples: Sequence[Sample]) -> list[dict[str, Tensor]]:
        """What the average is sure of: ``class_labels`` (T,) and ``boxes`` (T,4) boxes_cxcywh of each."""
        assert self.average is not None
        self.average.eval()
        batch = send_to_device(self.collator(samples), self.device)
        outputs = self.average(pixel_values=batch["pixel_values"], pixel_mask=batch["pixel_mask"])
        unit = [(1, 1)] * len(samples)  # boxes as fractions
        found = self.processor.post_process_object_detection(
            outputs, self.options.least_score, unit, self.most
        )
        return [
            {"class_labels": each["labels"], "boxes": xyxy_to_cxcywh(each["boxes"].float())} for each in found
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"task": self.task.state_dict(), "pictures": self.pictures.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["pictures"] != self.pictures.digest:
            raise FocusDetrError(
                f"unlabelled {self.options.folder}: holds other pictures than when the run began; put "
                "them back"
            )
        self.task.load_state_dict(state["task"])


def build_unlabelled(
    task: Task,
    options: UnlabelledOptions,
    recipe: Recipe,
    model: PreTrainedModel,
    processor: Any,
    accelerator: Accelerator,
) -> UnlabelledTask:
    """The task with pictures without labels beside it.

    Raises:
        FocusDetrError: there are no such pictures, or nobody to label them.
    """
    if not recipe.ema_decay:
        raise FocusDetrError(
            "unlabelled: pictures are labelled by the moving average of the weights, and the recipe keeps "
            "none; set ema_decay, to 0.998 say"
        )
    if HEAD in (getattr(model.config, "heads", None) or ()):
        raise FocusDetrError("unlabelled: not with masks, which nobody would give; train without them")
    names = class_names_of(model.config)
    share = max(1, recipe.batch_size // recipe.micro_batches // accelerator.num_processes)
    pictures = UnlabelledPictures(
        Path(options.folder),
        names,
        recipe,
        options.hidden,
        share,
        accelerator.process_index,
        accelerator.num_processes,
    )
    return UnlabelledTask(task, options, pictures, model, processor, recipe.micro_batches)

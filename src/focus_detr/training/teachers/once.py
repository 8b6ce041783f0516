"""A teacher whose answers are found once, on the pictures as they are, and kept on disk.

The folder of a teacher is named by all that its answers come from; the file of a picture by the picture's own
bytes. So another teacher, or a picture that was changed, has other files, and runs share what is there.
"""

# Shapes: T objects, k classes of the student that the teacher knows.

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.export.foreign import CANDIDATES, load_foreign
from focus_detr.folders import whole_files
from focus_detr.images.reading import read_image
from focus_detr.images.suppression import without_duplicates
from focus_detr.inference import Predictor
from focus_detr.losses.distillation import TaughtObjects
from focus_detr.structures.boxes import cxcywh_to_xyxy
from focus_detr.structures.instances import Instances
from focus_detr.training.teachers.classes import SharedClasses
from focus_detr.training.teachers.lesson import Lesson
from focus_detr.training.teachers.options import TeacherOptions, digest_of
from focus_detr.zoo.cache import VARIABLE, cache_folder
from focus_detr.zoo.resolve import resolve_model

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.data.records import Record

logger = logging.getLogger(__name__)


class OnceTeacher:
    """What a batch's labels say that the teacher found; see `with_answers`.

    Attributes:
        classes: those that it and the student know.
        digest: says whether a resumed run has the same teacher.
    """

    def __init__(self, options: TeacherOptions, student_names: Sequence[str], student_scoring: str) -> None:
        for name in ("features", "foreground"):
            if getattr(options, name):
                raise FocusDetrError(
                    f"teacher.{name}={getattr(options, name)}: answers that were found once are objects; set "
                    "it to 0, or teacher.once to false"
                )
        self.options, self.path = options, resolve_model(options.model)
        foreign = _foreign(self.path, options)
        self.predictor = foreign or Predictor.from_pretrained(self.path)
        self.suppression = None if foreign is None else foreign.processor.nms_threshold
        self.scoring = self.predictor.processor.scoring
        if self.scoring != student_scoring:
            raise FocusDetrError(
                f"teacher {options.model!r}: scores classes by {self.scoring}, the student by "
                f"{student_scoring}; take a teacher that scores as the student does"
            )
        self.budget = options.budget or None
        self.predictor.accept_budget(self.budget)
        self.classes = SharedClasses.of(
            student_names, self.predictor.class_names, options.classes, options.model
        )
        self.digest = digest_of(self.path, options)
        known = repr((self.digest, self.classes, options.least_score, options.most))
        self.folder = cache_folder() / "teachers" / hashlib.sha256(known.encode()).hexdigest()[:24]

    def __call__(self, batch: dict[str, Any]) -> Lesson:
        labels = batch["labels"]
        images = [(each["taught_logits"], each["taught_boxes"]) for each in labels]
        return Lesson(TaughtObjects.of_images(images))

    def with_answers(self, dataset: DetectionDataset, accelerator: Accelerator) -> DetectionDataset:
        """The data set, each picture with what the teacher found; what nobody asked for yet is found now, by
        all processes together.

        Raises:
            FocusDetrError: the cache cannot be written to.
        """
        records = dataset.records
        with explained_disk(self.folder, VARIABLE):
            self.folder.mkdir(parents=True, exist_ok=True)
            files = [self._file(record) for record in records]
            missing = [number for number, file in enumerate(files) if file is not None and read(file) is None]
            if missing:
                logger.info("teacher %s: looks at %d pictures once", self.options.model, len(missing))
            accelerator.wait_for_everyone()  # all have seen the same missing
            for number in missing[accelerator.process_index :: accelerator.num_processes]:
                self._find(records[number], files[number])
        accelerator.wait_for_everyone()
        taught = [
            replace(each, taught=self._answer(each, file)) for each, file in zip(records, files, strict=True)
        ]
        return dataset.with_records(taught)

    def _file(self, record: Record) -> Path | None:
        try:
            return self.folder / f"{hashlib.sha256(record.path.read_bytes()).hexdigest()}.npz"
        except OSError:  # said where it is read to be learned from
            return None

    def _find(self, record: Record, file: Path | None) -> None:
        try:
            image = read_image(record.path)
        except FocusDetrError:
            return
        logits, boxes = self.look(image)
        assert file is not None
        with whole_files(self.folder) as writing:  # runs that find the same do not meet
            np.savez(writing / file.name, logits=logits, boxes=boxes)

    def look(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """Logits (T,k) and boxes_cxcywh (T,4) of a picture's objects."""
        outputs = self.predictor.run([image], budget=self.budget)
        logits, boxes = (
            torch.as_tensor(each).float().cpu() for each in (outputs["logits"], outputs["pred_boxes"])
        )
        softmax = self.scoring == "softmax"
        logits = self.classes.of_teacher(logits, softmax)
        if self.suppression is not None:
            kept = _alone(logits[0], boxes[0], self.suppression)
            logits, boxes = logits[:, kept], boxes[:, kept]
        found = TaughtObjects.of_queries(logits, boxes, softmax, self.options.least_score, self.options.most)
        return found.logits[0].numpy(), found.boxes[0].numpy()

    def _answer(self, record: Record, file: Path | None) -> Instances:
        found = None if file is None else read(file)
        columns = len(self.classes.own) + (self.scoring == "softmax")
        logits, boxes = found or (np.zeros((0, columns), np.float32), np.zeros((0, 4), np.float32))
        size = np.asarray((record.size if len(boxes) else (1, 1)) * 2, np.float32)
        half = boxes[:, 2:] / 2
        corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1) * size
        return Instances(corners.astype(np.float32), np.zeros(len(boxes), np.int64), class_logits=logits)


def _foreign(path: Path, options: TeacherOptions) -> Predictor | None:
    names = [name for each in options.names.split(",") if (name := each.strip())]
    found = load_foreign(path, names) if path.suffix == ".onnx" else None
    if names and found is None:
        raise FocusDetrError(
            f"teacher.names={options.names!r}: {options.model} names its classes itself; leave it out"
        )
    return found


def _alone(logits: Tensor, boxes: Tensor, threshold: float) -> Tensor:
    # Rows of logits (T,k) and boxes_cxcywh (T,4), best first, that no better one of their class overlaps.
    scores, labels = logits.max(-1)
    best = scores.argsort(descending=True)[:CANDIDATES]
    corners = cxcywh_to_xyxy(boxes[best]).numpy()
    return best[torch.from_numpy(without_duplicates(corners, labels[best].numpy(), threshold))]


def read(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What was kept; None where nothing is, or a disk has spoilt it: it is found anew."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            logits, boxes = kept["logits"], kept["boxes"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (logits, boxes) if logits.ndim == 2 and boxes.shape == (len(logits), 4) else None

"""A run that learns nothing says so once, early, with the likely causes in its data and its recipe."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.printable import in_line, listed, percent
from focus_detr.training.monitoring import Callback
from focus_detr.training.recipe import Recipe
from focus_detr.training.state import TrainingState

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset

logger = logging.getLogger(__name__)

_FAIR_SHARE = 0.25  # of the steps: averaged weights and warm-up are behind by then
_NOTHING = 0.005  # AP
_TINY_SIDE, _MANY_TINY = 8, 0.25  # pixels: one cell of the finest feature map; share of the boxes
_FAR = 5  # times the advised learning rate, or a part of it
_FEW_STEPS, _FEW_PASSES = 1000, 3
_TELLING = ("one-picture-classes", "boxes-fill-pictures")  # of `suspicions`


class NothingLearned(Callback):
    """Warns if the best AP is still below 0.005 at the first evaluation after a quarter of the steps.

    Or at an earlier one, where patience ends the run by it.

    Args:
        dataset: what is learned.
        eval_dataset: what is evaluated on, where it is known.
        processor: resizes the images.
        recipe: of the run.
        advised: the recipe meant for the model.
        random_backbone: the backbone started without weights.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        eval_dataset: DetectionDataset | None,
        processor: FocusDetrImageProcessor,
        recipe: Recipe,
        advised: Recipe,
        random_backbone: bool,
    ) -> None:
        self.dataset, self.eval_dataset, self.processor = dataset, eval_dataset, processor
        self.recipe, self.advised, self.random_backbone = recipe, advised, random_backbone

    def on_evaluate(self, state: TrainingState) -> None:
        if not self._due(state) or state.best_ap is None or not state.best_ap < _NOTHING:
            return
        readable = zip(self.dataset.records, self.dataset.sizes(), strict=True)
        dataset = self.dataset.with_records([record for record, size in readable if size is not None])
        causes = [
            *_tiny_boxes(dataset, self.processor),
            *_random_backbone(self.random_backbone),
            *_learning_rate(self.recipe, self.advised),
            *_classes(dataset, self.eval_dataset),
            *_left_out([dataset, *([self.eval_dataset] if self.eval_dataset else [])]),
            *_steps(state.total_steps, self.recipe.batch_size, len(dataset)),
        ]
        numbered = "; ".join(f"({number}) {cause}" for number, cause in enumerate(causes, 1))
        logger.warning(
            "the run has learned next to nothing: the best AP is %.4f after %s of %s steps. %s. Look at "
            "samples.jpg, and at what `focus-detr check` says of the data",
            state.best_ap,
            state.step,
            state.total_steps,
            f"Likely causes: {numbered}" if causes else "None of the usual causes was found",
        )

    def _due(self, state: TrainingState) -> bool:
        """The history tells, so that a resumed run does not warn again."""
        start = _FAIR_SHARE * state.total_steps
        evaluated = [row["step"] for row in state.history if "eval_AP" in row and row["step"] >= start]
        patience = self.recipe.patience
        ending = patience is not None and state.evaluations_since_best() >= patience
        return len(evaluated) == 1 or (ending and not evaluated)


def _tiny_boxes(dataset: DetectionDataset, processor: FocusDetrImageProcessor) -> list[str]:
    sides = [
        _resized_sides(
            record.boxes / (1 if record.relative else np.tile(record.size, 2)), record.size, processor
        )
        for record in dataset.records
    ]
    every = np.concatenate(sides)
    tiny = float((every < _TINY_SIDE).mean()) if len(every) else 0.0
    if tiny < _MANY_TINY:
        return []
    return [
        f"{percent(tiny)} of the boxes are under {_TINY_SIDE} pixels (root of the area; the median is "
        f"{np.median(every):.1f}) as the images are resized: raise shortest_edge and longest_edge, or cut "
        "the images into tiles"
    ]


def _resized_sides(
    boxes_xyxy: np.ndarray, size: tuple[int, int], processor: FocusDetrImageProcessor
) -> np.ndarray:
    """(T,) roots of the areas in pixels of boxes (T,4), fractions of an image of ``size`` (width, height)."""
    height, width = processor.size_of(size[1], size[0])
    left, top, right, bottom = boxes_xyxy.T
    return np.sqrt(np.clip(right - left, 0, None) * width * np.clip(bottom - top, 0, None) * height)


def _random_backbone(random: bool) -> list[str]:
    advice = "take a preset's weights (backbone_weights: default), or start from a trained model"
    return [f"the backbone started without weights: {advice}"] if random else []


def _learning_rate(recipe: Recipe, advised: Recipe) -> list[str]:
    times = recipe.learning_rate / advised.learning_rate
    if 1 / _FAR < times < _FAR:
        return []
    return [
        f"learning_rate is {recipe.learning_rate:g}, {times:.3g} times the {advised.learning_rate:g} of the "
        f"recipe for this model, {advised.name}"
    ]


def _classes(dataset: DetectionDataset, eval_dataset: DetectionDataset | None) -> list[str]:
    from focus_detr.data.suspicions import suspicions

    found = [
        in_line(f"{each.message}. {each.fix}", 800) for each in suspicions(dataset) if each.kind in _TELLING
    ]
    if eval_dataset is None:
        return found
    learned, measured = dataset.class_counts(), eval_dataset.class_counts()
    strange = [name for name, count in measured.items() if count and not learned.get(name)]
    boxes = sum(measured[name] for name in strange)
    if strange:
        found.append(
            f"{boxes} of the {sum(measured.values())} boxes evaluated on are of classes that no training "
            f"image shows: {listed(strange)}; compare the class ids of both splits"
        )
    return found


def _left_out(datasets: Sequence[DetectionDataset]) -> list[str]:
    """What could not be read, or is of a class that the training data do not name."""
    problems = {
        id(each): each for dataset in datasets for each in dataset.problems if each.severity == "error"
    }
    if not problems:
        return []
    kinds = Counter(each.kind for each in problems.values())
    first = next(iter(problems.values()))
    return [
        f"parts of the data were left out ({listed(f'{count} {kind}' for kind, count in kinds.items())}), "
        f"for one: {in_line(first.message.removesuffix('.'), 300)}"
    ]


def _steps(steps: int, batch_size: int, images: int) -> list[str]:
    passes = steps * batch_size / images
    if steps >= _FEW_STEPS and passes >= _FEW_PASSES:
        return []
    return [
        f"the whole run is {steps} steps of {batch_size} images, {passes:.3g} passes over {images} images: "
        f"raise epochs or max_steps, to {_FEW_STEPS} steps and {_FEW_PASSES} passes at least"
    ]

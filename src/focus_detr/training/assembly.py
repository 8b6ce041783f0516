"""What a run's loop is put together of: model, data, evaluation, what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.models.plugins import import_plugins, trusting_plugins
from focus_detr.training.checkpoints import way_out
from focus_detr.training.eight_bits import EightBitsTask, read_eight_bits
from focus_detr.training.evaluating import CocoEvaluator, Evaluator
from focus_detr.training.recipe import Recipe, load_recipe, recipe_for
from focus_detr.training.starting_model import (
    build_image_processor,
    build_model,
    processor_folder,
    starts_without_weights,
)
from focus_detr.training.tasks import TASKS, Task, build_task
from focus_detr.training.teachers import build_teacher, read_teacher
from focus_detr.training.teachers.unlabelled import build_unlabelled, read_unlabelled

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.training.loop import TrainingLoop
    from focus_detr.training.monitoring import Callback


@dataclass(frozen=True)
class Assembly:
    """What the loops of a run have in common."""

    accelerator: Accelerator
    dataset: DetectionDataset
    eval_dataset: DetectionDataset | None
    checkpoint: Path | None
    """That the run goes on from."""
    evaluator: Evaluator | None
    """Instead of COCO's."""
    trust_plugins: bool

    def loop(
        self,
        model: str | Path | PreTrainedModel,
        recipe: Recipe,
        output: Path,
        callbacks: Sequence[Callback] | None = None,
    ) -> tuple[TrainingLoop, Any]:
        """A loop, and the report where its model comes from a trained one; ``callbacks`` instead of what a
        run shows."""
        from focus_detr.data import Collator, TransformedDataset, build_transforms
        from focus_detr.training.loop import TrainingLoop
        from focus_detr.training.monitoring import MetricsTable, Progress, TensorBoard
        from focus_detr.training.nothing_learned import NothingLearned

        set_seed(recipe.seed)
        with trusting_plugins(self.trust_plugins):
            import_plugins(recipe.plugins, (TASKS,))
            try:
                detector, report = build_model(model, self.checkpoint, recipe, self.dataset)
                processor = build_image_processor(processor_folder(self.checkpoint, output) or model, recipe)
            except FocusDetrError as error:
                if self.checkpoint is None or str(self.checkpoint) not in str(error):
                    raise
                raise FocusDetrError(f"{str(error).removesuffix('.')}. {way_out(self.checkpoint)}") from error
            task = self._task(recipe, detector, processor)
        evaluator = self.evaluator
        if evaluator is None and self.eval_dataset is not None:
            evaluator = CocoEvaluator(self.eval_dataset, processor, recipe.evaluated_together, recipe.workers)

        options = {"size": recipe.image_size, **recipe.augmentation_options}
        transforms = build_transforms(recipe.augmentation, **options)
        dataset = task.prepared(self.dataset, self.accelerator)
        training_set = TransformedDataset(dataset, transforms, recipe.seed)
        nothing_learned = NothingLearned(
            self.dataset,
            self.eval_dataset,
            processor,
            recipe,
            load_recipe(recipe_for(model)),
            starts_without_weights(model, recipe),
        )
        loop = TrainingLoop(
            self.accelerator,
            detector,
            task,
            recipe,
            output,
            training_set,
            Collator(processor),
            evaluator,
            processor,
            {record.image_id: record.path for record in self.dataset.records},
            # The row is in the table before the plot is drawn from it.
            (MetricsTable(output), TensorBoard(output), Progress(), nothing_learned)
            if callbacks is None
            else callbacks,
        )
        return loop, report

    def _task(self, recipe: Recipe, detector: PreTrainedModel, processor: Any) -> Task:
        device = self.accelerator.device
        task = build_task(recipe.task, recipe.task_options, detector, device)
        teacher, unlabelled = read_teacher(recipe.teacher), read_unlabelled(recipe.unlabelled)
        eight_bits = read_eight_bits(recipe.eight_bits)
        if eight_bits is not None:
            task = EightBitsTask(task, eight_bits, detector)
        elif getattr(detector.config, "activation_ranges", None):
            detector.config.activation_ranges = {}  # of weights that are about to change
        if teacher is not None:
            task = build_teacher(task, teacher, detector, processor)
        if unlabelled is not None:
            task = build_unlabelled(task, unlabelled, recipe, detector, processor, self.accelerator)
        return task

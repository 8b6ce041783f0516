"""The evaluation that training does between epochs: COCO's AP of the model as it will be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.training.sampling import PlainDataLoader

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.images.processor import FocusDetrImageProcessor

Evaluator = Callable[[PreTrainedModel], dict[str, float]]


def coco_evaluator(
    dataset: DetectionDataset, processor: FocusDetrImageProcessor, batch_size: int, workers: int = 0
) -> Evaluator:
    """Model -> the measures of `evaluate_batches` on ``dataset``, its images resized as in use.

    Raises:
        FocusDetrError: there is no object to find in ``dataset``.
    """
    from focus_detr.data import Collator
    from focus_detr.evaluation.batches import evaluate_batches

    if not any(len(record.labels) for record in dataset.records):
        raise FocusDetrError(
            f"{dataset.name}: the split {dataset.split!r} has no object of the training classes to evaluate "
            "on; choose another eval_split, or null to train without evaluating"
        )
    # Images of one size next to each other need no padding, and go through the backbone together.
    order = sorted(range(len(dataset)), key=lambda index: dataset.records[index].size)
    ground_truth = dataset.to_coco()

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        collate = Collator(processor, do_resize=True)
        loader = PlainDataLoader(dataset, batch_size, sampler=order, num_workers=workers, collate_fn=collate)
        return evaluate_batches(model, loader, ground_truth, processor=processor)

    return evaluate

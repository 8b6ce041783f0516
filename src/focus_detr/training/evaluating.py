"""The evaluation that training does between epochs: COCO's AP of the model as it will be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.training.interruption import in_worker
from focus_detr.training.processes import from_first
from focus_detr.training.sampling import PlainDataLoader

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.evaluation.batches import Findings
    from focus_detr.images.processor import FocusDetrImageProcessor

Evaluator = Callable[[PreTrainedModel], dict[str, float]]


class CocoEvaluator:
    """Model -> the measures of `evaluate_batches` on ``dataset``, its images resized as in use.

    Raises:
        FocusDetrError: there is no object to find in ``dataset``.
    """

    def __init__(
        self, dataset: DetectionDataset, processor: FocusDetrImageProcessor, batch_size: int, workers: int = 0
    ) -> None:
        if not any(len(record.labels) for record in dataset.records):
            raise FocusDetrError(
                f"{dataset.name}: the split {dataset.split!r} has no object of the training classes to "
                "evaluate on; choose another eval_split, or null to train without evaluating"
            )
        self.dataset, self.processor, self.workers = dataset, processor, workers
        self.ground_truth = dataset.to_coco()
        # Images of one size next to each other need no padding, and go through the backbone together.
        order = sorted(range(len(dataset)), key=lambda index: dataset.records[index].size)
        self.batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        return self.score([self.find(model)])

    def find(self, model: PreTrainedModel, rank: int = 0, processes: int = 1) -> Findings:
        """What the model detects in one process's share of the batches."""
        from focus_detr.data import Collator
        from focus_detr.evaluation.batches import find_in_batches

        loader = PlainDataLoader(
            self.dataset,
            batch_sampler=self.batches[rank::processes],
            num_workers=self.workers,
            collate_fn=Collator(self.processor, do_resize=True),
            worker_init_fn=in_worker,
            generator=torch.Generator().manual_seed(0),
        )
        return find_in_batches(model, loader, self.ground_truth, processor=self.processor)

    def score(self, shares: Sequence[Findings]) -> dict[str, float]:
        from focus_detr.evaluation.batches import score_findings

        return score_findings(shares, self.ground_truth)


def evaluate_together(
    evaluator: Evaluator, model: PreTrainedModel, accelerator: Accelerator
) -> dict[str, float]:
    """The numbers of an evaluation, in every process.

    A `CocoEvaluator` has each process look at its share of the images; any other evaluator runs in the first
    process alone. Meanwhile the model is in evaluation mode.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    numbers: dict[str, float] = {}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        if processes > 1 and isinstance(evaluator, CocoEvaluator):
            share = evaluator.find(model, rank, processes)
            shares: list[Any] | None = [None] * processes if rank == 0 else None
            torch.distributed.gather_object(share, shares)
            if shares is not None:
                numbers = evaluator.score(shares)
        elif rank == 0:
            numbers = evaluator(model)
    model.train(was_training)
    return from_first(accelerator, {name: float(value) for name, value in numbers.items()})

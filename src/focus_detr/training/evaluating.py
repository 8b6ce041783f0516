"""The evaluation that training does between epochs: COCO's AP of the model as it will be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.image_processing import FocusDetrImageProcessor

Evaluator = Callable[[PreTrainedModel], dict[str, float]]


def coco_evaluator(
    dataset: DetectionDataset, processor: FocusDetrImageProcessor, batch_size: int, workers: int = 0
) -> Evaluator:
    """Model -> COCO's AP, AP50, AP75, AP by size and recall on ``dataset``, images resized as in use."""
    from focus_detr.data import Collator
    from focus_detr.evaluation.coco import coco_metrics

    # The same sizes next to each other: less padding, and images of one size go through a model together.
    order = sorted(range(len(dataset)), key=lambda index: dataset.records[index].size)
    collate = Collator(processor, do_resize=True)
    ground_truth = dataset.to_coco()

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        loader: DataLoader[Any] = DataLoader(
            dataset, batch_size, sampler=order, num_workers=workers, collate_fn=collate
        )
        top_k = getattr(model.config, "num_detections", 300)
        predictions: list[dict[str, Any]] = []
        for batch in loader:
            sizes = [tuple(label["orig_size"].tolist()) for label in batch["labels"]]
            outputs = model(batch["pixel_values"].to(model.device), batch["pixel_mask"].to(model.device))
            found = processor.post_process_object_detection(outputs, 0.0, sizes, top_k)
            for label, detections in zip(batch["labels"], found, strict=True):
                predictions += _coco_results(int(label["image_id"]), detections, dataset.category_ids)
        return coco_metrics(ground_truth, predictions).summary

    return evaluate


def _coco_results(image_id: int, detections: dict[str, Any], category_ids: list[int]) -> list[dict[str, Any]]:
    rows = zip(*(detections[name].tolist() for name in ("scores", "labels", "boxes")), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        for score, label, (left, top, right, bottom) in rows
    ]

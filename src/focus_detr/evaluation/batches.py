"""The light evaluation: batches of a data loader in, a few numbers out, as training asks for every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from focus_detr.evaluation.coco import coco_metrics
from focus_detr.evaluation.tokens import ForegroundRecall
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference.results import Detections
from focus_detr.structures.pixel_masks import PixelMasks


def evaluate_batches(
    model: nn.Module,
    dataloader: Iterable[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    *,
    max_detections: int | None = None,
    processor: FocusDetrImageProcessor | None = None,
) -> dict[str, float]:
    """COCO measures and foreground recall of a model in evaluation mode.

    Args:
        model: called with `pixel_values` and `pixel_mask`; batches are moved to its device.
        dataloader: batches with `pixel_values`, `pixel_mask` and `labels`, as the collator makes them. An
            image that comes twice (to fill a sampler's last batch, or in place of an unreadable file) counts
            once.
        ground_truth: COCO json dictionary, its categories in label order (`DetectionDataset.to_coco()`);
            only the images that came are scored.
        max_detections: kept of each image; by default the model's own number, else 300.
        processor: turns outputs into detections; by default one of no particular settings.

    Returns the measures of `CocoMetrics.summary` and `ForegroundRecall.summary`; those that are not defined,
    for want of objects, are left out. Of a model with masks, on data with masks, those of masks come beside,
    as `mask_AP` and so on.
    """
    findings = find_in_batches(
        model, dataloader, ground_truth, max_detections=max_detections, processor=processor
    )
    return score_findings([findings], ground_truth)


@dataclass
class Findings:
    """What a model detects in some images; several processes find their shares, one scores them all."""

    predictions: list[dict[str, Any]]
    """COCO results."""
    image_ids: set[int]
    recall: ForegroundRecall

    def __getstate__(self) -> dict[str, Any]:
        # As numbers: a tenth of the bytes of as many dictionaries on the way to another process.
        rows = [[p["image_id"], p["category_id"], *p["bbox"], p["score"]] for p in self.predictions]
        numbers = np.array(rows, dtype=np.float64).reshape(-1, 7)
        masks = [p.get("segmentation") for p in self.predictions]
        return {**self.__dict__, "predictions": (numbers, masks if any(masks) else None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        numbers, masks = state["predictions"]
        self.predictions = [
            {"image_id": int(image), "category_id": int(category), "bbox": bbox, "score": score}
            for image, category, *bbox, score in numbers.tolist()
        ]
        for each, mask in zip(self.predictions, masks or (), strict=False):
            if mask is not None:
                each["segmentation"] = mask


def find_in_batches(
    model: nn.Module,
    dataloader: Iterable[Mapping[str, Any]],
    ground_truth: Mapping[str, Any],
    *,
    max_detections: int | None = None,
    processor: FocusDetrImageProcessor | None = None,
) -> Findings:
    """The first half of `evaluate_batches`, with the same arguments."""
    if max_detections is None:
        max_detections = getattr(getattr(model, "config", None), "num_detections", 300)
    category_ids = [category["id"] for category in ground_truth["categories"]]
    names = [category["name"] for category in ground_truth["categories"]]
    masks = any("segmentation" in item for item in ground_truth["annotations"])
    device = next(model.parameters()).device
    post_process = (processor or FocusDetrImageProcessor()).post_process_object_detection
    recall = ForegroundRecall()
    predictions: list[dict[str, Any]] = []
    scored: set[int] = set()
    for batch in dataloader:
        labels = batch["labels"]
        with torch.inference_mode():
            outputs = model(
                pixel_values=batch["pixel_values"].to(device), pixel_mask=batch["pixel_mask"].to(device)
            )
            sizes = torch.stack([label["orig_size"] for label in labels])
            found = post_process(outputs, threshold=0.0, target_sizes=sizes, top_k=max_detections)
        if getattr(outputs, "plan", None) is not None:
            recall.update(outputs, labels)
        pixel_masks = PixelMasks.of(outputs) if masks else None
        for index, (objects, label) in enumerate(zip(found, labels, strict=True)):
            image_id = int(label["image_id"])
            if image_id not in scored:
                scored.add(image_id)
                detections = Detections.from_tensors(objects, names, tuple(label["orig_size"].tolist()))
                if pixel_masks is not None:
                    detections = detections.with_masks(pixel_masks, index)
                predictions += detections.to_coco(image_id, category_ids)
    return Findings(predictions, scored, recall)


def score_findings(shares: Sequence[Findings], ground_truth: Mapping[str, Any]) -> dict[str, float]:
    """The second half of `evaluate_batches`: measures of all shares together."""
    predictions: list[dict[str, Any]] = []
    scored: set[int] = set()
    recall = ForegroundRecall()
    for share in shares:
        predictions += [each for each in share.predictions if each["image_id"] not in scored]
        scored |= share.image_ids
        recall.add(share.recall)
    truth = restrict(ground_truth, scored)
    measures = coco_metrics(truth, predictions).summary | recall.summary()
    if any("segmentation" in item for item in predictions):
        of_masks = coco_metrics(truth, predictions, masks=True).summary
        measures |= {f"mask_{name}": value for name, value in of_masks.items()}
    return {name: value for name, value in measures.items() if not math.isnan(value)}


def restrict(ground_truth: Mapping[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """The part of a COCO dictionary that concerns these images."""
    return {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if image["id"] in image_ids],
        "annotations": [item for item in ground_truth["annotations"] if item["image_id"] in image_ids],
    }

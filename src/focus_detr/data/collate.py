"""Collator: samples -> the batch a model is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from focus_detr.data.records import Sample
from focus_detr.structures.masks import GRID

if TYPE_CHECKING:
    from focus_detr.images.processor import FocusDetrImageProcessor


class Collator:
    """Normalises and pads images with `image_processor`, and writes their boxes as labels.

    `do_resize=False` (training): transforms have already given the images their size. `True`: the processor
    resizes them as at inference.

    Returns `pixel_values` (B,3,H,W) float32, `pixel_mask` (B,H,W) uint8 with 1 for image, and `labels`, a
    list of dicts: `class_labels` (T,) int64, `boxes` (T,4) float32 boxes_cxcywh, `size` (2,) height and
    width before padding, `orig_size` (2,) height and width of the image file, `image_id` (1,), `noise_seed`
    (1,) where the sample has one, and whatever else its `Instances` know, by the field's name. `masks` are
    (T,M,M) uint8: how much, of 255, of each cell of a grid over its box an object covers; `masks_known` (T,)
    bool, those that are said. Where a teacher was asked, `taught_logits` (T,k) and `taught_boxes` (T,4) are
    what it found.
    """

    def __init__(self, image_processor: FocusDetrImageProcessor, do_resize: bool = False) -> None:
        self.image_processor = image_processor
        self.do_resize = do_resize

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        images = [sample.image for sample in samples]
        batch = self.image_processor(images, do_resize=self.do_resize, return_tensors="pt")
        mask = batch["pixel_mask"]
        # The mask is a rectangle from the top left, so its first column and row tell the image's size.
        sizes = torch.stack([mask[:, :, 0].sum(dim=1), mask[:, 0, :].sum(dim=1)], dim=1)
        labels = [_labels(sample, size) for sample, size in zip(samples, sizes, strict=True)]
        return {"pixel_values": batch["pixel_values"], "pixel_mask": mask, "labels": labels}


def _labels(sample: Sample, size: torch.Tensor) -> dict[str, torch.Tensor]:
    facts = sample.instances.known()
    labels = {
        "class_labels": torch.from_numpy(facts.pop("labels").astype(np.int64)),
        "boxes": _boxes_cxcywh(facts.pop("boxes_xyxy"), sample),
        "size": size,
        "orig_size": torch.tensor(sample.orig_size),
        "image_id": torch.tensor([sample.image_id]),
    }
    masks = facts.pop("masks", None)
    if masks is not None:
        boxes = sample.instances.boxes_xyxy
        grids = [_no_mask() if m is None else m.grid(box) for m, box in zip(masks, boxes, strict=True)]
        labels["masks"] = torch.from_numpy(np.stack([*grids, _no_mask()])[:-1])
        labels["masks_known"] = torch.tensor([mask is not None for mask in masks], dtype=torch.bool)
    for name, values in facts.items():
        # Not every accelerator has doubles.
        labels[name] = torch.from_numpy(values.astype(np.float32) if values.dtype == np.float64 else values)
    if sample.taught is not None and sample.taught.class_logits is not None:
        labels["taught_logits"] = torch.from_numpy(sample.taught.class_logits)
        labels["taught_boxes"] = _boxes_cxcywh(sample.taught.boxes_xyxy, sample)
    if sample.noise_seed is not None:
        labels["noise_seed"] = torch.tensor([sample.noise_seed])
    return labels


def _boxes_cxcywh(boxes_xyxy: np.ndarray, sample: Sample) -> torch.Tensor:
    # (T,4), normalised.
    fractions = boxes_xyxy / np.asarray(sample.image.size * 2, dtype=np.float32)
    low, high = fractions[:, :2], fractions[:, 2:]
    return torch.from_numpy(np.concatenate([(low + high) / 2, high - low], axis=1).astype(np.float32))


def _no_mask() -> np.ndarray:
    """(M,M): nothing is covered."""
    return np.zeros((GRID, GRID), dtype=np.uint8)

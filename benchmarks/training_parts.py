"""What a training step is made of, for scripts that time its parts one by one."""

from __future__ import annotations

from pathlib import Path

import torch

from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.data import Collator, TransformedDataset, build_transforms, load_dataset
from focus_detr.training.recipe import load_recipe
from focus_detr.zoo.presets import preset


def training_parts(
    data: Path, split: str, name: str, recipe: str
) -> tuple[TransformedDataset, Collator, FocusDetrForObjectDetection]:
    """Augmented samples by the recipe, what makes batches of them, and the preset with random weights."""
    settings, dataset = load_recipe(recipe), load_dataset(data, split)
    size = {"shortest_edge": settings.shortest_edge, "longest_edge": settings.longest_edge}
    augmentation = {"size": size, **settings.augmentation_options}
    transforms = build_transforms(settings.augmentation, **augmentation)
    torch.manual_seed(0)
    model = FocusDetrForObjectDetection(preset(name, num_labels=len(dataset.class_names))).train()
    collate = Collator(FocusDetrImageProcessor(size=size))
    return TransformedDataset(dataset, transforms, seed=0), collate, model

"""The originals' checkpoints with the fixtures' weights, models made of them, and the fixtures' batches."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from focus_detr.convert import convert_checkpoint
from focus_detr.models import FocusDetrForObjectDetection
from focus_detr.structures.boxes import xyxy_to_cxcywh
from helpers.parity_weights import make

DATA = Path(__file__).parents[1] / "data" / "parity"


def checkpoint(name, folder):
    layout = json.loads((DATA / f"{name}.layout.json").read_text())
    state = {key: torch.from_numpy(make(key, shape, kind)) for key, (shape, kind) in layout.items()}
    path = folder / f"{name}.pth"
    torch.save({"model": state}, path)
    return path


_cache = {}


def original_model(name, tmp_path_factory, num_labels=None, **settings):
    """(name, model in float64, tensors of the original, conversion report); the last one is kept."""
    if name not in _cache:
        folder = tmp_path_factory.mktemp(name)
        path = checkpoint(name, folder)
        report = convert_checkpoint(path, folder / "model", num_labels=num_labels)
        path.unlink()
        model = FocusDetrForObjectDetection.from_pretrained(folder / "model", dtype=torch.float64, **settings)
        _cache.clear()
        _cache[name] = (name, model, load_file(DATA / f"{name}.safetensors"), report)
    return _cache[name]


def kept_model_forgets_gradients():
    for _, model, _, _ in _cache.values():
        model.zero_grad(set_to_none=True)


def forget_kept_model():
    _cache.clear()


def in_training(model):
    """It, about to be trained; activations are computed again on the way back: kept, they are gigabytes."""
    model.train()
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable()
    model.zero_grad()
    return model


def padded(images, multiple=1):
    """Pixels and mask of images, padded right and below to sides that ``multiple`` divides."""
    height, width = (-(-max(image.shape[side] for image in images) // multiple) * multiple for side in (1, 2))
    pixels = torch.zeros(len(images), 3, height, width, dtype=torch.float64)
    mask = torch.zeros(len(images), height, width, dtype=torch.long)
    for i, image in enumerate(images):
        pixels[i, :, : image.shape[1], : image.shape[2]], mask[i, : image.shape[1], : image.shape[2]] = (
            image,
            1,
        )
    return pixels, mask


def training_batch(golden, normalised, multiple=1):
    """Pixels, mask and labels of a fixture's two images, which ``normalised`` makes input of."""
    images = [normalised(golden[f"image_{i}"]) for i in range(2)]
    pixels, mask = padded(images, multiple)
    labels = []
    for i, image in enumerate(images):
        h, w = image.shape[1:]
        boxes = xyxy_to_cxcywh(golden[f"boxes_{i}"]) / torch.tensor([w, h, w, h])
        labels.append({"class_labels": golden[f"labels_{i}"], "boxes": boxes, "size": torch.tensor([h, w])})
    return pixels, mask, labels

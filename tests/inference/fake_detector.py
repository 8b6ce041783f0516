"""A detector small enough to know its answers: it finds the red and the green rectangle of an image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

CLASS_NAMES = ("red", "green")


def picture(width: int = 64, height: int = 48, **boxes: tuple[int, int, int, int]) -> Image.Image:
    """A black image with filled rectangles, e.g. `picture(red=(4, 4, 20, 12))`."""
    image = Image.new("RGB", (width, height))
    for name, (left, top, right, bottom) in boxes.items():
        color = {"red": (255, 0, 0), "green": (0, 255, 0)}[name]
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=color)
    return image


class FakeModel(nn.Module):
    """One query a class: the bounding box of the pixels of its colour, score 0.9 where there are any."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        id2label = dict(enumerate(CLASS_NAMES))
        self.config = SimpleNamespace(**{"id2label": id2label, "num_detections": 100, **config})
        self.batch_sizes: list[int] = []

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> SimpleNamespace:
        self.batch_sizes.append(len(pixel_values))
        logits = torch.full((len(pixel_values), 2, 2), -9.0)
        boxes = torch.full((len(pixel_values), 2, 4), 0.5)
        for index, (pixels, mask) in enumerate(zip(pixel_values, pixel_mask, strict=True)):
            height, width = int(mask[:, 0].sum()), int(mask[0].sum())
            for channel in range(2):
                rows, columns = torch.nonzero(pixels[channel, :height, :width] > 0.5, as_tuple=True)
                if len(rows):
                    left, right = columns.min() / width, (columns.max() + 1) / width
                    top, bottom = rows.min() / height, (rows.max() + 1) / height
                    centre = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
                    boxes[index, channel] = centre
                    logits[index, channel, channel] = torch.logit(torch.tensor(0.9 - 0.2 * channel))
        return SimpleNamespace(logits=logits * self.scale, pred_boxes=boxes)


class FakeProcessor:
    """Pads to the largest image, without resizing; takes the best of all queries and classes."""

    def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, Tensor]:
        assert return_tensors == "pt"
        height, width = max(image.height for image in images), max(image.width for image in images)
        pixels, mask = (
            torch.zeros(len(images), 3, height, width),
            torch.zeros(len(images), height, width).long(),
        )
        for index, image in enumerate(images):
            array = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
            pixels[index, :, : image.height, : image.width] = array
            mask[index, : image.height, : image.width] = 1
        return {"pixel_values": pixels, "pixel_mask": mask}

    def post_process_object_detection(
        self, outputs: Any, threshold: float, target_sizes: list[tuple[int, int]], top_k: int | None
    ) -> list[dict[str, Tensor]]:
        results = []
        for logits, boxes, (height, width) in zip(
            outputs.logits, outputs.pred_boxes, target_sizes, strict=True
        ):
            scores = logits.sigmoid().flatten()
            order = scores.argsort(descending=True)[:top_k]
            order = order[scores[order] >= threshold]
            centre, size = boxes[order // logits.shape[1]].split(2, dim=-1)
            corners = torch.cat([centre - size / 2, centre + size / 2], -1) * torch.tensor(
                [width, height] * 2
            )
            results.append({"scores": scores[order], "labels": order % logits.shape[1], "boxes": corners})
        return results

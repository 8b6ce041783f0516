"""A detector small enough to know its answers: it finds the red and the green rectangle of an image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference.predictor import RawOutput

CLASS_NAMES = ("red", "green")


def picture(width: int = 64, height: int = 48, **boxes: tuple[int, int, int, int]) -> Image.Image:
    """A black image with filled rectangles, e.g. `picture(red=(4, 4, 20, 12))`."""
    image = Image.new("RGB", (width, height))
    for name, (left, top, right, bottom) in boxes.items():
        color = {"red": (255, 0, 0), "green": (0, 255, 0)}[name]
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=color)
    return image


class FakeModel(nn.Module):
    """One query a class: the bounding box of the pixels of its color, score 0.9 where there are any."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        id2label = dict(enumerate(CLASS_NAMES))
        self.config = SimpleNamespace(**{"id2label": id2label, "num_detections": 100, **config})
        self.batch_sizes: list[int] = []

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> RawOutput:
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
        return RawOutput(logits=logits * self.scale, pred_boxes=boxes)


def plain_processor() -> FocusDetrImageProcessor:
    """Pads, and leaves pixels as they are but for dividing by 255."""
    return FocusDetrImageProcessor(do_resize=False, do_normalize=False)

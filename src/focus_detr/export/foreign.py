"""Detectors that others exported as ONNX, by the published layouts of their outputs: YOLOX and PicoDet."""

# Shapes: Q cells of all levels, k classes, M bins of a distribution.

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from focus_detr.convert.coco import COCO_CLASS_NAMES
from focus_detr.errors import FocusDetrError
from focus_detr.export.metadata import KEY
from focus_detr.export.outside import refuse_outside
from focus_detr.export.packages import need
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference.predictor import Predictor

GREY = 114.0
CANDIDATES = 1000
"""Boxes an image that suppression chooses from."""
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_LARGEST_EXPONENT = 20.0  # as a logarithm, a side of 485 million strides


class PicoDet:
    """Scores of every cell, and its box as four distributions over distances to the sides.

    Args:
        run: images (1,3,H,W) -> the graph's outputs: scores (1,Q,k) of each level, then distributions
            (1,Q,4M).
        size: height and width that the graph takes.
    """

    def __init__(self, run: Any, size: tuple[int, int]) -> None:
        self.run, self.size = run, size
        self.processor = FocusDetrImageProcessor(
            size={"height": size[0], "width": size[1]}, nms_threshold=0.6
        )

    def infer(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One image of that size -> logits (1,Q,k), boxes_cxcywh (1,Q,4)."""
        outputs = [torch.from_numpy(each) for each in self.run(pixel_values.contiguous().numpy())]
        levels = len(outputs) // 2
        scores, distributions = torch.cat(outputs[:levels], 1), torch.cat(outputs[levels:], 1)
        centres, strides = grid(self.size, next(s for s in _STRIDES if len(s) == levels), offset=0.5)
        bins = distributions.shape[-1] // 4
        weights = distributions.unflatten(-1, (4, bins)).softmax(-1)
        sides = (weights * torch.arange(bins)).sum(-1) * strides[:, None]  # left, top, right, bottom
        low, high = centres - sides[..., :2], centres + sides[..., 2:]
        boxes = torch.cat([(low + high) / 2, high - low], -1) / torch.tensor([*self.size[::-1]] * 2)
        return as_logits(scores), boxes


class Yolox:
    """Offsets in each cell, logarithms of sizes, and a score of being an object at all.

    Args:
        run: images (1,3,H,W) -> one output (1,Q,5+k), decoded to pixels or not.
        size: height and width that the graph takes.
    """

    def __init__(self, run: Any, size: tuple[int, int]) -> None:
        self.run, self.size = run, size
        self.processor = FocusDetrImageProcessor(
            size={"shortest_edge": min(size), "longest_edge": max(size)},
            image_mean=[0.0] * 3,
            image_std=[1 / 255] * 3,
            nms_threshold=0.65,
            pad_divisor=1,
        )

    def infer(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One image that fits into that size -> logits (1,Q,k), boxes_cxcywh (1,Q,4)."""
        height, width = pixel_values.shape[2:]
        canvas = torch.full((1, 3, *self.size), GREY)
        canvas[:, :, :height, :width] = pixel_values.flip(1)  # BGR
        output = torch.from_numpy(self.run(canvas.numpy())[0])
        places, sides = output[..., :2], output[..., 2:4]
        if float(sides.max()) <= _LARGEST_EXPONENT:
            levels = strides_of(self.size, output.shape[1])
            assert levels is not None  # or it would not be this layout
            corners, strides = grid(self.size, levels, offset=0.0)
            places, sides = places * strides[:, None] + corners, sides.exp() * strides[:, None]
        boxes = torch.cat([places, sides], -1) / torch.tensor([width, height] * 2)
        return as_logits(output[..., 4:5] * output[..., 5:]), boxes


Foreign = PicoDet | Yolox


def load_foreign(path: Path, names: Sequence[str] = ()) -> Predictor | None:
    """A detector of another's file; None where the file is one of ours.

    Nothing is suppressed but by its image processor: `infer` answers with all cells.

    Args:
        names: of its classes, in its order; those of COCO where it has 80 and none are given.

    Raises:
        FocusDetrError: the file cannot be read, or its outputs are of no layout that is known here.
    """
    runtime = need("onnxruntime")
    refuse_outside(path)
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3  # of older files, the runtime warns by the hundred
    try:
        session = runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no base
        raise FocusDetrError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if KEY in session.get_modelmeta().custom_metadata_map:
        return None
    inputs = [(each.name, each.shape) for each in session.get_inputs()]
    if len(inputs) != 1 or len(inputs[0][1]) != 4 or not all(isinstance(n, int) for n in inputs[0][1][1:]):
        said = ", ".join(f"{name} {shape}" for name, shape in inputs)
        raise FocusDetrError(
            f"{path}: takes {said}; a detector of one picture (1,3,H,W) of fixed size is read"
        )
    (name, (_, _, *size)) = inputs[0]

    def run(images: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {name: images})

    detector, count = _by_layout(path, run, (size[0], size[1]))
    names = tuple(names) or (COCO_CLASS_NAMES if count == len(COCO_CLASS_NAMES) else ())
    if len(names) != count:
        given = f"{len(names)} names are given" if names else "their names are not in it"
        raise FocusDetrError(f"{path}: has {count} classes, and {given}; give as many, in its order")
    return Predictor(detector, detector.processor, names)


def _by_layout(path: Path, run: Any, size: tuple[int, int]) -> tuple[Foreign, int]:
    # The detector, and how many classes it has.
    shapes = [each.shape for each in run(np.zeros((1, 3, *size), np.float32))]
    if all(len(shape) == 3 for shape in shapes):
        cells = [shape[1] for shape in shapes]
        if len(shapes) == 1 and strides_of(size, cells[0]) and shapes[0][2] > 5:
            return Yolox(run, size), shapes[0][2] - 5
        levels = len(shapes) // 2
        halves = cells[:levels] == cells[levels:] and shapes[-1][2] % 4 == 0
        if halves and levels in map(len, _STRIDES) and strides_of(size, sum(cells[:levels])):
            return PicoDet(run, size), shapes[0][2]
    said = ", ".join("x".join(map(str, shape)) for shape in shapes)
    raise FocusDetrError(
        f"{path}: its outputs ({said}) are of no layout that is read: YOLOX's one of 1xQx(5+k) over strides "
        "of 8, 16 and 32, and PicoDet's of 1xQxk scores of each level, then distributions; take such a file, "
        "or one of focus-detr export"
    )


def as_logits(scores: Tensor) -> Tensor:
    return scores.clamp(1e-6, 1 - 1e-6).logit()


def grid(size: tuple[int, int], strides: Sequence[int], offset: float) -> tuple[Tensor, Tensor]:
    """Places (Q,2) of the cells in pixels, x before y, and their strides (Q,)."""
    places, widths = [], []
    for stride in strides:
        steps = [(torch.arange(math.ceil(side / stride)) + offset) * stride for side in size]
        y, x = torch.meshgrid(*steps, indexing="ij")
        places.append(torch.stack([x, y], -1).flatten(0, 1))
        widths.append(torch.full((x.numel(),), float(stride)))
    return torch.cat(places), torch.cat(widths)


def strides_of(size: tuple[int, int], cells: int) -> tuple[int, ...] | None:
    """The levels that have so many cells together."""
    for strides in _STRIDES:
        if sum(math.prod(math.ceil(side / stride) for side in size) for stride in strides) == cells:
            return strides
    return None

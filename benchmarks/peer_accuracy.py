"""Average precision of the ONNX peers, measured as our own models' is.

    python benchmarks/peer_accuracy.py COCO --onnx FOLDER

PicoDet-S 416 (`picodet_s_416_coco.onnx`) and YOLOX-nano (`yolox_nano.onnx`) in ONNX Runtime, on a data set
with COCO's 80 classes, through `focus_detr.evaluation`. Images are prepared as each was trained: stretched,
or with their aspect ratio on a grey square. What their graphs leave out is done here: boxes from
distributions or offsets on the grid, and suppression of boxes of one class (0.6 for PicoDet, 0.65 for YOLOX).

    python benchmarks/peer_accuracy.py COCO --onnx FOLDER --reports reports
    focus-detr evaluate MODEL COCO --split val --output reports/ours
    focus-detr compare --a reports/yolox_nano --b reports/ours
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import main, parser, write
from exported import onnx_session
from torch import Tensor

from focus_detr.convert.coco import COCO_CLASS_NAMES
from focus_detr.evaluation import evaluate
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor

SIDE = 416
GREY = 114.0
MEASURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
CANDIDATES = 1000  # boxes an image that suppression chooses from


class PicoDet:
    """Scores of every cell, and its box as four distributions over distances to the sides."""

    file, strides = "picodet_s_416_coco.onnx", (8, 16, 32, 64)
    processor = FocusDetrImageProcessor(size={"height": SIDE, "width": SIDE}, nms_threshold=0.6)

    def __init__(self, path: Path, threads: int) -> None:
        self.session = onnx_session(path, threads)

    def infer(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One image (1,3,416,416) -> logits (1,Q,80), boxes_cxcywh (1,Q,4)."""
        outputs = [torch.from_numpy(each) for each in run(self.session, pixel_values)]
        scores, distributions = torch.cat(outputs[:4], 1), torch.cat(outputs[4:], 1)
        centres, strides = grid(self.strides, offset=0.5)
        bins = distributions.shape[-1] // 4
        weights = distributions.unflatten(-1, (4, bins)).softmax(-1)
        sides = (weights * torch.arange(bins)).sum(-1) * strides[:, None]  # left, top, right, bottom
        low, high = centres - sides[..., :2], centres + sides[..., 2:]
        boxes = torch.cat([(low + high) / 2, high - low], -1) / SIDE
        return scores.clamp(1e-6, 1 - 1e-6).logit(), boxes


class Yolox:
    """Offsets in each cell, logarithms of sizes, and a score of being an object at all."""

    file, strides = "yolox_nano.onnx", (8, 16, 32)
    processor = FocusDetrImageProcessor(
        size={"shortest_edge": SIDE, "longest_edge": SIDE},
        image_mean=[0.0] * 3,
        image_std=[1 / 255] * 3,
        nms_threshold=0.65,
        pad_divisor=1,
    )

    def __init__(self, path: Path, threads: int) -> None:
        self.session = onnx_session(path, threads)

    def infer(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One image (1,3,H,W) -> logits (1,Q,80), boxes_cxcywh (1,Q,4)."""
        height, width = pixel_values.shape[2:]
        canvas = torch.full((1, 3, SIDE, SIDE), GREY)
        canvas[:, :, :height, :width] = pixel_values.flip(1)  # BGR
        output = torch.from_numpy(run(self.session, canvas)[0])
        corners, strides = grid(self.strides, offset=0.0)
        places = output[..., :2] * strides[:, None] + corners
        sizes = output[..., 2:4].exp() * strides[:, None]
        scores = output[..., 4:5] * output[..., 5:]
        boxes = torch.cat([places, sizes], -1) / torch.tensor([width, height] * 2)
        return scores.clamp(1e-6, 1 - 1e-6).logit(), boxes


def run(session: Any, images: Tensor) -> list[np.ndarray]:
    return session.run(None, {session.get_inputs()[0].name: images.contiguous().numpy()})


def grid(strides: tuple[int, ...], offset: float) -> tuple[Tensor, Tensor]:
    """Places (Q,2) of the cells in pixels, x before y, and their strides (Q,)."""
    places, widths = [], []
    for stride in strides:
        count = -(-SIDE // stride)
        steps = (torch.arange(count) + offset) * stride
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        places.append(torch.stack([x, y], -1).flatten(0, 1))
        widths.append(torch.full((count * count,), float(stride)))
    return torch.cat(places), torch.cat(widths)


def measure(options: argparse.Namespace) -> None:
    rows = []
    for peer in (PicoDet, Yolox):
        detector = peer(options.onnx / peer.file, options.threads)
        predictor = Predictor(detector, peer.processor, COCO_CLASS_NAMES)
        predictor.max_detections = CANDIDATES
        output = options.reports and options.reports / peer.file.removesuffix(".onnx")
        report = evaluate(predictor, options.data, split=options.split, output=output)
        summary = report.metrics.summary
        rows.append({
            "model": peer.__name__, "images": report.metrics.images, "objects": report.metrics.objects,
            **{key: round(summary[key], 4) for key in MEASURES},
        })  # fmt: skip
        print(rows[-1], flush=True)
    write("peer_accuracy", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--onnx", type=Path, required=True, help="folder of the ONNX peers")
    arguments.add_argument("--split", default="val")
    arguments.add_argument("--reports", type=Path, help="folder of a report each, for `focus-detr compare`")
    main(measure, arguments.parse_args())

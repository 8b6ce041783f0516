"""Average precision of the ONNX peers, measured as our own models' is.

    python benchmarks/peer_accuracy.py COCO --onnx FOLDER

PicoDet-S 416 (`picodet_s_416_coco.onnx`) and YOLOX-nano (`yolox_nano.onnx`) in ONNX Runtime, on a data set
with COCO's 80 classes, through `focus_detr.evaluation`. Images are prepared as each was trained: stretched,
or with their aspect ratio on a grey square. What their graphs leave out is done here: boxes from
distributions or offsets on the grid, and suppression of boxes of one class (0.6 for PicoDet, 0.65 for YOLOX;
`focus_detr.export.foreign`).

    python benchmarks/peer_accuracy.py COCO --onnx FOLDER --reports reports
    focus-detr evaluate MODEL COCO --split val --output reports/ours
    focus-detr compare --a reports/yolox_nano --b reports/ours
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import main, parser, write

from focus_detr.evaluation import evaluate
from focus_detr.export.foreign import CANDIDATES, load_foreign

PEERS = {"PicoDet": "picodet_s_416_coco.onnx", "Yolox": "yolox_nano.onnx"}
MEASURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def measure(options: argparse.Namespace) -> None:
    rows = []
    for name, file in PEERS.items():
        predictor = load_foreign(options.onnx / file)
        assert predictor is not None  # written by others
        predictor.max_detections = CANDIDATES
        output = options.reports and options.reports / file.removesuffix(".onnx")
        report = evaluate(predictor, options.data, split=options.split, output=output)
        summary = report.metrics.summary
        rows.append({
            "model": name, "images": report.metrics.images, "objects": report.metrics.objects,
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

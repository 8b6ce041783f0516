"""AP per millisecond: resolution, budget and decoder layers of one model, and what no other point beats.

    python benchmarks/frontier.py blood-cells BCCD --split test
    python benchmarks/frontier.py everyday COCO_SUBSET --split val --deploy

Times are of one picture of the data, from the picture in memory to its detections, points in turns;
`frontier` marks what no other point beats in both, `low` and `high` bound its AP less that of the best point.
`focus-detr calibrate MODEL DATA --frontier` does the same and keeps the points as settings of a model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import main, parser, write

from focus_detr import Predictor
from focus_detr.benchmarking import frontier
from focus_detr.benchmarking.frontiers import SCALES
from focus_detr.benchmarking.plots import plot_frontier


def run(options: argparse.Namespace) -> None:
    predictor = Predictor.from_pretrained(options.model, device="cpu", deploy=options.deploy)
    found = frontier(
        predictor,
        options.data,
        split=options.split,
        scales=options.scale or SCALES,
        budgets=options.budget or (),
        decoder_layers=options.decoder_layers or (),
        max_drop=options.max_drop,
        runs=options.runs,
        progress=True,
    )
    name = Path(options.model).name
    rows = [
        {"model": name, "deployed": options.deploy, "images": found.images, **row} for row in found.rows()
    ]
    path = write("frontier", rows, options.output)
    plot_frontier(found.points, found.named(), path.with_suffix(".png"))
    print(found.summary())


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("model")
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--split", default="val")
    arguments.add_argument("--deploy", action="store_true", help="of the form that infers fastest")
    arguments.add_argument(
        "--scale", type=float, action="append", help="of the model's resolution; repeatable"
    )
    arguments.add_argument("--budget", type=float, action="append", help="repeatable")
    arguments.add_argument("--decoder-layers", type=int, action="append", help="repeatable")
    arguments.add_argument("--max-drop", type=float, default=0.003)
    main(run, arguments.parse_args())

"""What focusing costs in accuracy and saves in work: two models trained alike, one of them dense.

    focus-detr train BCCD --model focus-detr-lite0 --recipe blood-cells --output runs/blood-cells --device cpu
    focus-detr train BCCD --model dino-lite0 --recipe blood-cells --output runs/dense --device cpu
    python benchmarks/focusing.py BCCD blood-cells runs/dense

AP is that of `focus-detr evaluate` on the split; operations are those of one image of ``--size``, times of
one forward pass of the deployed models, in turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from common import main, parser, random_images, size, timing_columns, write

from focus_detr import Predictor
from focus_detr.benchmarking import count_macs, take_turns
from focus_detr.deploy.deploy import deploy
from focus_detr.evaluation import evaluate


def run(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    works: dict[str, Any] = {}
    images = random_images(*options.size)
    for name in options.models:
        predictor = Predictor.from_pretrained(name)
        model: Any = predictor.model
        summary = evaluate(predictor, options.data, split=options.split, progress=False).metrics.summary
        cost = count_macs(model.config, *options.size)
        recipe = model.config.training_recipe or {}
        rows.append({
            "model": Path(name).name, "host": model.config.host, "policy": model.config.token_policy,
            "epochs": recipe.get("epochs"), "seed": recipe.get("seed"),
            **{key: round(summary[key], 4) for key in ("AP", "AP50", "AP75")},
            "size": f"{options.size[0]}x{options.size[1]}", "kept": round(cost.kept_share, 3),
            "encoder_gmacs": round((cost.scoring + cost.encoder) / 1e9, 3),
            "total_gmacs": round(cost.total / 1e9, 3),
        })  # fmt: skip
        print("evaluated:", *rows[-1].values(), flush=True)
        deployed = deploy(model)
        works[name] = lambda deployed=deployed: deployed(images)
    with torch.no_grad():
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    for name, row in zip(options.models, rows, strict=True):
        row |= timing_columns(timings[name], timings[options.models[0]])
    write("focusing", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=20)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("models", nargs="+", help="names or folders")
    arguments.add_argument("--split", default="test")
    arguments.add_argument("--size", type=size, default=(320, 427), help="HxW of the image")
    main(run, arguments.parse_args())

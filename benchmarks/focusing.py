"""What focusing costs in accuracy and saves in work: models trained alike, one of each pair dense.

    for seed in 0 1; do
      focus-detr train BCCD --model dino-lite0 --recipe blood-cells --set epochs=9 --set seed=$seed \\
          --output runs/dense-$seed
      focus-detr train BCCD --model focus-detr-lite0 --recipe blood-cells --set epochs=9 --set seed=$seed \\
          --output runs/focus-$seed
    done
    python benchmarks/focusing.py BCCD --a runs/dense-0 --a runs/dense-1 --b runs/focus-0 --b runs/focus-1

AP is that of `focus-detr evaluate` on the split, its difference and interval that of `focus-detr compare`;
operations are those of one image of ``--size``, times of one forward pass of the deployed models, in turns.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import main, parser, random_images, size, timing_columns, write

from focus_detr import Predictor
from focus_detr.benchmarking import count_macs, take_turns
from focus_detr.deploy.deploy import deploy
from focus_detr.evaluation import evaluate
from focus_detr.evaluation.comparison import compare, read_evaluated


def run(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    works: dict[str, Any] = {}
    images = random_images(*options.size)
    names = [*options.a, *options.b]
    with TemporaryDirectory() as kept:
        for name in names:
            predictor = Predictor.from_pretrained(name)
            report = evaluate(predictor, options.data, split=options.split, progress=False)
            report.save(Path(kept) / str(len(rows)))
            rows.append(described(name, predictor.model, report.metrics.summary, options.size))
            print("evaluated:", *rows[-1].values(), flush=True)
            deployed = deploy(predictor.model)
            works[name] = lambda deployed=deployed: deployed(images)
        evaluated = [read_evaluated(Path(kept) / str(index)) for index in range(len(rows))]
    found = compare(evaluated[: len(options.a)], evaluated[len(options.a) :])
    print(found.summary())
    with torch.no_grad():
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    for name, row in zip(names, rows, strict=True):
        row |= timing_columns(timings[name], timings[names[0]])
    path = write("focusing", rows, options.output)
    path.with_suffix(".json").write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")


def described(name: str, model: Any, summary: dict[str, float], shape: tuple[int, int]) -> dict[str, Any]:
    """One row: what the model is, how accurate, and how much work."""
    cost, recipe = count_macs(model.config, *shape), model.config.training_recipe or {}
    return {
        "model": Path(name).name, "host": model.config.host, "policy": model.config.token_policy,
        "epochs": recipe.get("epochs"), "seed": recipe.get("seed"),
        **{key: round(summary[key], 4) for key in ("AP", "AP50", "AP75")},
        "size": f"{shape[0]}x{shape[1]}", "kept": round(cost.kept_share, 3),
        "encoder_gmacs": round((cost.scoring + cost.encoder) / 1e9, 3),
        "total_gmacs": round(cost.total / 1e9, 3),
    }  # fmt: skip


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=20)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--a", action="append", required=True, help="dense, a name or folder; repeatable")
    arguments.add_argument("--b", action="append", required=True, help="focused; as often, seed by seed")
    arguments.add_argument("--split", default="test")
    arguments.add_argument("--size", type=size, default=(320, 427), help="HxW of the image")
    main(run, arguments.parse_args())

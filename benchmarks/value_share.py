"""A decoder that looks at the foreground alone: what it saves, and what it costs.

    python benchmarks/value_share.py --data everyday=COCO_SUBSET:val --data blood-cells=BCCD:test

Of the tokens with the best foreground scores a share has decoder values of its own, all others those of their
mean (`host_options.value_share`); with `--option proposal_share` a share may become queries. Operations and
processor time are of a ResNet-50 of random weights, eager, the shares in turns. Average precision is that of
bundled models, which were not trained for it: how far it is from that with all tokens, with its interval of
95 % by a bootstrap over the pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import main, model_and_data, parser, random_images, random_model, size, write

from focus_detr import FocusDetrConfig, Predictor
from focus_detr.benchmarking import count_macs, take_turns
from focus_detr.evaluation import compare, evaluate, read_evaluated

SHARES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)
PRESET = "focus-detr-r50"


def run(options: argparse.Namespace) -> None:
    rows: dict[float, dict[str, Any]] = {share: {"share": share} | cost(share, options) for share in SHARES}
    model, images = random_model(PRESET), random_images(*options.size)

    def work(share: float) -> None:
        thin(model, options.option, share)
        model(images)

    timings = take_turns(
        {str(share): partial(work, share) for share in SHARES},
        options.runs,
        warmup=options.warmup,
        pause=options.pause,
    )
    for share, row in rows.items():
        row["cpu_ms"] = round(1e3 * timings[str(share)].cpu_median, 1)
        row["of_cpu_time"] = round(timings[str(share)].cpu_median / timings["1.0"].cpu_median, 3)
    for name, path, split in map(model_and_data, options.data):
        for share, columns in accuracy(name, path, split, options.option).items():
            rows[share] |= columns
    write(options.option, list(rows.values()), options.output)


def thin(model: Any, option: str, share: float) -> None:
    model.host.options = dataclasses.replace(model.host.options, **{option: share})


def cost(share: float, options: argparse.Namespace) -> dict[str, float]:
    """Operations of the decoder, and of all."""
    found = count_macs(
        FocusDetrConfig.from_preset(PRESET, host_options={options.option: share}), *options.size
    )
    return {"decoder_gmacs": round(found.decoder / 1e9, 2), "gmacs": round(found.total / 1e9, 1)}


def accuracy(name: str, data: Path, split: str, option: str) -> dict[float, dict[str, float]]:
    """AP by share, and its difference to that of all tokens."""
    predictor = Predictor.from_pretrained(name, device="cpu")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            thin(predictor.model, option, share)
            output = Path(folder) / str(share)
            evaluate(predictor, data, split=split, output=output)
            each = compare([read_evaluated(Path(folder) / "1.0")], [read_evaluated(output)]).measures["AP"]
            values = {"AP": each.b, "difference": each.difference, "low": each.low, "high": each.high}
            found[share] = {f"{name}_{key}": round(value, 4) for key, value in values.items()}
    return found


if __name__ == "__main__":
    arguments = parser(__doc__, threads=2, runs=5)
    arguments.add_argument("--option", choices=("value_share", "proposal_share"), default="value_share")
    arguments.add_argument("--size", type=size, default=(800, 1333))
    arguments.add_argument("--data", action="append", default=[], metavar="MODEL=PATH:SPLIT")
    main(run, arguments.parse_args())

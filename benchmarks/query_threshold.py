"""As many queries as a picture's scores call for: what it saves in the decoder, and what it costs.

    python benchmarks/query_threshold.py --data everyday=COCO_SUBSET:val --data blood-cells=BCCD:test

Tokens whose class probability is below a threshold become no query (`host_options.query_threshold`): the mean
number of queries of the pictures, the decoder's operations at that number and at ``--size``, and processor
time of some of the pictures, eager, the thresholds in turns. Average precision is that of models as they are,
and how far it is from that with all queries, with its interval of 95 % by a bootstrap over the pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import main, model_and_data, parser, size, write

from focus_detr import Predictor
from focus_detr.benchmarking import count_macs, take_turns
from focus_detr.data import load_dataset
from focus_detr.evaluation import compare, evaluate, read_evaluated

THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
TIMED = 16  # pictures


def run(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    for name, path, split in map(model_and_data, options.data):
        predictor = Predictor.from_pretrained(name, device="cpu")
        found = accuracy(predictor, path, split, options)
        times = timed(predictor, path, split, options)
        rows += [{"model": name, "threshold": each} | found[each] | times[each] for each in THRESHOLDS]
    write("query_threshold", rows, options.output)


def asking(model: Any, threshold: float) -> Any:
    """The model with this threshold."""
    model.host.options = dataclasses.replace(model.host.options, query_threshold=threshold)
    return model


def accuracy(
    predictor: Predictor, data: Path, split: str, options: argparse.Namespace
) -> dict[float, dict[str, float]]:
    """By threshold: mean queries, their operations, AP and its difference to that of all queries."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for threshold in THRESHOLDS:
            counts: list[int] = []
            output = Path(folder) / str(threshold)
            asking(predictor.model, threshold)
            evaluate(
                predictor,
                data,
                split=split,
                output=output,
                progress=False,
                watch=lambda outputs, labels, counts=counts: counts.append(outputs.logits.shape[1]),
            )
            mean = float(np.mean(counts))
            cost = count_macs(predictor.model.config, *options.size, queries=max(1, round(mean)))
            each = compare([read_evaluated(Path(folder) / "0.0")], [read_evaluated(output)]).measures["AP"]
            values = {"AP": each.b, "difference": each.difference, "low": each.low, "high": each.high}
            found[threshold] = {
                "queries": round(mean, 1),
                "decoder_gmacs": round(cost.decoder / 1e9, 3),
                "gmacs": round(cost.total / 1e9, 3),
                **{key: round(value, 4) for key, value in values.items()},
            }
    return found


def timed(
    predictor: Predictor, data: Path, split: str, options: argparse.Namespace
) -> dict[float, dict[str, float]]:
    """By threshold: processor time of the forward passes of some pictures, one at a time."""
    pictures = load_dataset(data, split)
    prepared = [predictor.prepare([pictures[i].image])[0] for i in range(min(TIMED, len(pictures)))]

    @torch.no_grad()
    def work(threshold: float) -> None:
        model = asking(predictor.model, threshold)
        for pixels in prepared:
            model(pixels)

    timings = take_turns(
        {str(each): partial(work, each) for each in THRESHOLDS},
        options.runs,
        warmup=options.warmup,
        pause=options.pause,
    )
    return {
        each: {"cpu_ms": round(1e3 * timings[str(each)].cpu_median / len(prepared), 2)} for each in THRESHOLDS
    }


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=5)
    arguments.add_argument("--size", type=size, default=(320, 416))
    arguments.add_argument("--data", action="append", default=[], metavar="MODEL=PATH:SPLIT")
    main(run, arguments.parse_args())

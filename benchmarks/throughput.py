"""Pictures a second of `focus-detr predict FOLDER --output`, against the rate of the forward pass alone.

    python benchmarks/throughput.py everyday FOLDER --threads 2
    python benchmarks/throughput.py everyday FOLDER --threads 2 --model-threads 1

In one process, in turns: the forward passes of the folder's pictures, prepared before, in batches; and all
that the command does with them, loading, resizing, the same passes, drawing and writing. In another form,
`in turns`, each is done when the one before is, as it was before loading and drawing overlapped with the
model. `share` is a form's rate over the forward pass's own; where all cores are taken by the model already,
what loading and drawing take has to come from somewhere, and `cpu_share` says how much there is of it. With
fewer `--model-threads` than cores the others are there for it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import main, parser, write

from focus_detr.benchmarking import take_turns
from focus_detr.cli.predict import predict
from focus_detr.inference import Predictor
from focus_detr.inference.sources.files import expand_sources
from focus_detr.inference.streaming import Stream


class InTurns:
    """In the place of `Behind`: everything is done when it is asked for."""

    def __init__(self, work: Callable[[Any], None]) -> None:
        self.add = work

    def __enter__(self) -> InTurns:
        return self

    def __exit__(self, *error: object) -> None: ...


def run(options: argparse.Namespace) -> None:
    """All forms, in turns."""
    model_threads = options.model_threads or options.threads
    torch.set_num_threads(model_threads)
    predictor = Predictor.from_pretrained(options.model, device="cpu", bare=True)
    batches = []
    pictures = [each.load() for each in expand_sources(str(options.folder))][: options.pictures]
    for begin in range(0, len(pictures), options.batch):
        batches.append(predictor.prepare(pictures[begin : begin + options.batch]))
    count = len(pictures)
    del pictures

    def forward() -> None:
        for values, mask in batches:
            predictor.run_prepared(values, mask)

    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "pictures"
        chosen.mkdir()
        files = sorted(
            path for path in Path(options.folder).iterdir() if path.suffix.lower() in (".jpg", ".png")
        )
        for file in files[:count]:
            os.symlink(file.absolute(), chosen / file.name)

        def command() -> None:
            with tempfile.TemporaryDirectory() as output, quiet():
                whole = mock.patch.object(Predictor, "from_pretrained", return_value=predictor)
                with whole:
                    predict(options.model, [str(chosen)], batch_size=options.batch, output=Path(output))

        def in_turns() -> None:
            behind = mock.patch("focus_detr.cli.predict.Behind", InTurns)
            ahead = mock.patch.object(Stream, "_ahead", lambda self, size: 0)
            with behind, ahead:
                command()

        works = {"forward": forward, "predict": command, "predict, in turns": in_turns}
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    alone = timings["forward"]
    rows = [
        {
            "form": name, "model": options.model, "model_threads": model_threads,
            "batch": options.batch, "pictures": count,
            "pictures_per_second": round(count / timing.best, 2),
            "share": round(alone.best / timing.best, 3),
            "median_share": round(alone.median / timing.median, 3),
            "cpu_share": round(alone.cpu_median / timing.cpu_median, 3),
        }
        for name, timing in timings.items()
    ]  # fmt: skip
    write("throughput", rows, options.output)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the command says is no figure."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("model")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--model-threads", type=int, help="of the threads; all by default")
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--pictures", type=int, default=48)
    main(run, arguments.parse_args())

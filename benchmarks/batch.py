"""Pictures a second of `focus-detr batch`, against those of the model alone on the same pictures, in turns.

    python benchmarks/batch.py blood-cells examples/blood-cells --threads 1 --pictures 64

"model" runs the forward pass on batches that were read, decoded and resized before, as `focus-detr benchmark`
does; "read" reads, decodes, resizes and batches them alone, in this thread; "batch" is a whole run of blocks:
manifest, reading ahead in threads, model, commits, merging. All in this process, with as many threads of
torch as --threads says; other cores are left to the reading threads. The pictures are taken again until there
are enough. With --ray, "batch on ray" is the same run by one process of a Ray on this machine, which stays
between runs; its processor time is of all of Ray's processes, and of this one.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from common import parser, write

from focus_detr.batch.cluster import connected, run_on_ray
from focus_detr.batch.finishing import finish
from focus_detr.batch.inputs import Listing
from focus_detr.batch.places import Place
from focus_detr.batch.reading import Item, items_of, limits, read
from focus_detr.batch.run import begun, run_here
from focus_detr.batch.working import Work
from focus_detr.benchmarking import take_turns
from focus_detr.images.reduced import SizedImage
from focus_detr.inference.predictor import Predictor


def run(options: argparse.Namespace) -> None:
    predictor = Predictor.from_pretrained(options.model, deploy=options.deploy)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        inputs, output = Path(folder) / "in", Path(folder) / "out"
        total = copies(options.folder, inputs, options.pictures)
        blocks = list(Listing([str(inputs)], options.block).blocks())
        accepted = limits(200)
        rule = getattr(predictor.processor, "size_of", None)

        def read_batches() -> list[Any]:
            return [
                predictor.prepare([_read(item, rule, accepted) for item in some])
                for block in blocks
                for some in _batched(items_of(block, accepted), options.batch)
            ]

        prepared = read_batches()

        def model() -> None:
            for batch in prepared:
                predictor.decode(
                    predictor.run_prepared(*batch), (), sizes=[tuple(batch[0].shape[2:])] * len(batch[0])
                )

        def forward() -> None:
            for batch in prepared:
                predictor.run_prepared(*batch)

        def whole(on_ray: bool = False) -> None:
            shutil.rmtree(output, ignore_errors=True)
            work = Work(Place.of(output), options.model, batch_size=options.batch, readers=options.readers)
            with begun(Listing([str(inputs)], options.block), work, ["parquet"], {}) as started:
                if on_ray:
                    done = run_on_ray(
                        work, started.ledger, started.pending(), workers=1, cpus=options.threads
                    )
                else:
                    done = run_here(work, started, predictor)
                for _ in done:
                    pass
                finish(started.ledger, ["parquet"])

        spent: list[float] = []

        def on_ray() -> None:
            before = children_seconds()
            whole(on_ray=True)
            spent.append(children_seconds() - before)

        works = {"model": forward, "model and boxes": model, "read": read_batches, "batch": whole}
        if options.ray:
            works["batch on ray"] = on_ray
            stack.enter_context(connected(None))
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
        if options.ray:
            measured = timings["batch on ray"]
            cpu = [own + ray for own, ray in zip(measured.cpu_seconds, spent[-options.runs :], strict=True)]
            timings["batch on ray"] = replace(measured, cpu_seconds=tuple(cpu))
        size = sum(file.stat().st_size for file in inputs.iterdir()) / total
        results = sum(file.stat().st_size for file in (output / "detections").iterdir()) / total
        rows = [
            {
                "work": name,
                "model": options.model,
                "deployed": options.deploy,
                "pictures": total,
                "batch": options.batch,
                "readers": options.readers,
                "torch_threads": torch.get_num_threads(),
                "images_per_second": round(total / timing.median, 2),
                "images_per_cpu_second": round(total / timing.cpu_median, 2),
                "share_of_model": round(timings["model"].median / timing.median, 4),
                "read_cpu_seconds": round(timings["read"].cpu_median / total, 6),
                "model_cpu_seconds": round(timings["model and boxes"].cpu_median / total, 6),
                "batch_cpu_seconds": round(timings["batch"].cpu_median / total, 6),
                "picture_bytes": round(size),
                "result_bytes": round(results),
            }
            for name, timing in timings.items()
        ]
        write("batch", rows, options.output)


def children_seconds() -> float:
    """Of processors, by all processes that this one has started and their own."""
    total = 0.0
    for each in psutil.Process().children(recursive=True):
        try:
            total += sum(each.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def copies(source: Path, target: Path, count: int) -> int:
    """So many pictures of a folder, taken again where there are fewer."""
    target.mkdir()
    files = [name for block in Listing([str(source)]).blocks() for name in block.files]
    for number, name in zip(range(count), itertools.cycle(map(str, files)), strict=False):
        shutil.copyfile(name, target / f"{number:06d}{Path(name).suffix}")
    return count


def _batched(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while some := list(itertools.islice(items, size)):
        yield some


def _read(item: Any, rule: Any, accepted: Any) -> Any:
    assert isinstance(item, Item)
    found = read(item, rule, accepted)
    assert isinstance(found, SizedImage)
    return found.image


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=5)
    arguments.add_argument("model")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--pictures", type=int, default=64)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--block", type=int, default=16)
    arguments.add_argument("--readers", type=int, default=1)
    arguments.add_argument("--deploy", action="store_true")
    arguments.add_argument("--ray", action="store_true", help="on Ray, too")
    chosen = arguments.parse_args()
    # Not by `common.main`, which would keep the reading threads on the model's cores.
    torch.set_num_threads(chosen.threads)
    with torch.no_grad():
        run(chosen)

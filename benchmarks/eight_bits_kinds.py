"""INT8 by time: what each kind of layer gains by 8 bits, and what it costs to leave it in float32.

    python benchmarks/eight_bits_kinds.py blood-cells BCCD --size 320x416

Of each runtime the file in float32, that in INT8, and INT8 with one kind of layer left in float32; `gained`
is what that kind's 8 bits save, as a share of the time of the file in float32. Times are of one forward pass,
in turns. Whether the processor multiplies in 8 bits stands in column `int8` (`focus-detr benchmark --env`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import main, parser, size, timing_columns, write
from exported import megabytes, own_work

from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor, resolve_model
from focus_detr.benchmarking import take_turns
from focus_detr.data import load_dataset
from focus_detr.export import onnx
from focus_detr.export.exporter import prepare
from focus_detr.export.metadata import KEY, Metadata
from focus_detr.export.operations import coarse_groups, operations_of
from focus_detr.export.quantization import quantized, readable

RUNTIMES = ("OpenVINO", "ONNX Runtime")


def kind_of(block: str) -> str:
    """What a block (`coarse_groups`) is, as a person would say."""
    if block.startswith("backbone"):
        return "backbone"
    if block.startswith("encoder"):
        return "encoder, feed-forward" if block.endswith("ffn") else "encoder, attention"
    return "decoder"


def forms(blocks: Iterable[str]) -> dict[str, list[str]]:
    """Blocks that stay in float32, by what a file of them is called."""
    blocks = list(blocks)
    kinds = dict.fromkeys(map(kind_of, blocks))
    left = {f"{kind} in float32": [each for each in blocks if kind_of(each) == kind] for kind in kinds}
    return {"int8": [], **left}


def written(
    runtime: str, model: Any, metadata: Metadata, pictures: list[Any], folder: Path
) -> dict[str, Path]:
    """A file of each form."""
    whole = folder / f"{runtime} float32.onnx"
    onnx.write(model, whole, metadata)
    if runtime == "OpenVINO":
        import openvino

        def save(graph: Any, path: Path) -> Path:
            graph.set_rt_info(metadata.to_json(), [KEY])
            openvino.save_model(graph, path.with_suffix(".xml"), compress_to_fp16=False)
            return path.with_suffix(".xml")

        def read() -> Any:
            return openvino.convert_model(whole)

    else:
        import onnx as files

        def save(graph: Any, path: Path) -> Path:
            files.save(graph, path.with_suffix(".onnx"))
            return path.with_suffix(".onnx")

        def read() -> Any:
            return files.load(whole)

    found = {"float32": save(read(), folder / f"{runtime} whole")}
    for form, left in forms(coarse_groups(operations_of(read()), model)).items():
        found[form] = save(quantized(read(), model, metadata, pictures, left), folder / f"{runtime} {form}")
        print("written:", runtime, form, flush=True)
    return found


def run(options: argparse.Namespace) -> None:
    source = resolve_model(options.model)
    height, width = options.size
    processor = FocusDetrImageProcessor.from_pretrained(source, size={"height": height, "width": width})
    model = FocusDetrForObjectDetection.from_pretrained(source).float().eval()
    prepare(model, "int8")
    metadata = Metadata.of(model.config, processor, options.size, 1)
    records = load_dataset(options.data, options.split).records[: options.ranges]
    pictures = readable([record.path for record in records])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in options.runtimes:
            files = written(runtime, model, metadata, pictures, Path(folder))
            works = {form: own_work(path, options.size) for form, path in files.items()}
            timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
            whole, eight = timings["float32"], timings["int8"]
            for form, path in files.items():
                gained = (timings[form].median - eight.median) / whole.median
                rows.append({
                    "model": Path(options.model).name, "runtime": runtime, "form": form,
                    "size": f"{height}x{width}",
                    "megabytes": megabytes(path),
                    **timing_columns(timings[form], whole), "gained": round(gained, 3),
                })  # fmt: skip
    write("eight_bits_kinds", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=15)
    arguments.add_argument("model")
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--split", default="train", help="that ranges are measured on")
    arguments.add_argument("--ranges", type=int, default=20, help="pictures that ranges are measured on")
    arguments.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    arguments.add_argument("--size", type=size, default=(320, 416), help="HxW of the images")
    main(run, arguments.parse_args())

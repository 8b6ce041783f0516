"""What 8 bits cost: average precision, time and size of a model's files in float32, in INT8 and in INT8 with
blocks given back, and which blocks those are.

    python benchmarks/eight_bits.py blood-cells DATA --size 320x416

Ranges are measured on pictures of ``--calibrate``. Blocks are chosen on ``--search``, where at most
``--max-drop`` of AP may be lost; AP is that of ``--split``. ``AP_low`` and ``AP_high`` bound a form's AP
less that of the same runtime's float32, as `focus-detr compare` does. `--trained FOLDER` adds a
model that was trained for 8 bits, in its own ranges. ``kept`` is the share of the tokens
that the eager encoder works on which a file selects, too. Times are of one forward pass, in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import main, parser, size, timing_columns, write
from exported import megabytes, own_work

from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor, Predictor, resolve_model
from focus_detr.benchmarking import take_turns
from focus_detr.data import load_dataset
from focus_detr.evaluation import evaluate
from focus_detr.evaluation.comparison import compare, read_evaluated
from focus_detr.export import export
from focus_detr.export.openvino import shared_core
from focus_detr.images.reading import read_image

SUFFIXES = {"OpenVINO": ".xml", "ONNX Runtime": ".onnx"}


def with_selection(path: Path) -> Callable[[np.ndarray], list[int]]:
    """What the first selection of a file keeps, of pixel_values (1,3,H,W)."""
    if path.suffix == ".xml":
        graph = shared_core().read_model(path)
        selection = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "TopK")
        graph.add_outputs(selection.output(1))
        compiled = shared_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images: compiled(images)[compiled.outputs[-1]][0].tolist()
    import onnx as files
    import onnxruntime

    graph = files.load(path)
    selection = next(node for node in graph.graph.node if node.op_type == "TopK")
    graph.graph.output.append(files.helper.make_empty_tensor_value_info(selection.output[1]))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return lambda images: session.run([selection.output[1]], {"pixel_values": images})[0][0].tolist()


def share_kept(path: Path, eager: Predictor, pictures: list[Path]) -> float:
    """Share of the tokens of the eager model's first encoder layer that a file selects."""
    select = with_selection(path)
    shares = []
    for picture in pictures:
        images = eager.processor(images=[read_image(picture)], return_tensors="pt")["pixel_values"]
        wanted = eager.model(images).plan.indices[0].tolist()
        shares.append(len(set(wanted) & set(select(images.numpy()))) / len(wanted))
    return sum(shares) / len(shares)


def run(options: argparse.Namespace) -> None:
    source = resolve_model(options.model)
    height, width = options.size
    processor = FocusDetrImageProcessor.from_pretrained(source, size={"height": height, "width": width})
    eager = Predictor(FocusDetrForObjectDetection.from_pretrained(source).float().eval(), processor)
    dataset: Any = load_dataset(options.data, options.split, classes=eager.class_names)
    pictures = [record.path for record in dataset.records[: options.pictures]]
    calibrate: Any = load_dataset(options.calibrate_data or options.data, options.calibrate)
    calibration = [record.path for record in calibrate.records[: options.ranges]]
    tolerated = {"max_drop": options.max_drop, "data": options.search_data or options.data}
    forms: dict[str, dict[str, Any]] = {
        "fp32": {},
        "int8": {"precision": "int8", "calibration": calibration},
        "int8 within a drop": {
            "precision": "int8", "calibration": calibration, **tolerated, "split": options.search
        },
    }  # fmt: skip
    if options.trained is not None:
        forms["int8 trained"] = {"precision": "int8"}
    rows: list[dict[str, Any]] = []
    works: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime in options.runtimes:
            whole = Path(folder) / f"{runtime} fp32"
            for form, precision in forms.items():
                path = Path(folder) / f"{runtime} {form}{SUFFIXES[runtime]}"
                format = "openvino" if runtime == "OpenVINO" else "onnx"
                source_of = options.trained if form == "int8 trained" else options.model
                export(source_of, path, format, image_size=options.size, batch_size=1, **precision)
                report = evaluate(str(path), dataset, progress=False)
                report.save(path.with_suffix(""))
                sides = [read_evaluated(whole)], [read_evaluated(path.with_suffix(""))]
                difference = compare(*sides).measures["AP"]
                blocks = path.with_suffix(".blocks.json")
                found = (
                    json.loads(blocks.read_text()) if blocks.is_file() else {"given_back": [], "costs": {}}
                )
                rows.append({
                    "model": options.model, "runtime": runtime, "form": form, "size": f"{height}x{width}",
                    "megabytes": megabytes(path),
                    "images": len(dataset), "AP": round(report.metrics.summary["AP"], 4),
                    "AP_low": round(difference.low, 4), "AP_high": round(difference.high, 4),
                    "kept": round(share_kept(path, eager, pictures), 4),
                    "given_back": " ".join(found["given_back"]),
                    "costs": " ".join(f"{block}={cost:.4f}" for block, cost in found["costs"].items()),
                })  # fmt: skip
                print("evaluated:", *rows[-1].values(), flush=True)
                works[f"{runtime} {form}"] = own_work(path, options.size)
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    for row in rows:
        own = timings[f"{row['runtime']} {row['form']}"]
        row |= timing_columns(own, timings[f"{row['runtime']} fp32"])
    write("eight_bits", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1, runs=15)
    arguments.add_argument("model")
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--split", default="test", help="that AP is of")
    arguments.add_argument("--search", default="val", help="split that blocks are chosen on")
    arguments.add_argument("--search-data", type=Path, help="data set of --search, if it is another")
    arguments.add_argument("--calibrate", default="train", help="split that ranges are measured on")
    arguments.add_argument("--calibrate-data", type=Path, help="data set of --calibrate, if it is another")
    arguments.add_argument("--ranges", type=int, default=60, help="pictures that ranges are measured on")
    arguments.add_argument("--max-drop", type=float, default=0.005)
    arguments.add_argument(
        "--trained", help="the model trained for 8 bits (`train --eight-bits`), a form, too"
    )
    arguments.add_argument("--runtimes", nargs="+", choices=SUFFIXES, default=list(SUFFIXES))
    arguments.add_argument("--size", type=size, default=(320, 416), help="HxW of the images")
    arguments.add_argument("--pictures", type=int, default=20, help="of the split, whose tokens are compared")
    main(run, arguments.parse_args())

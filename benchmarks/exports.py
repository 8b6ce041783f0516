"""Exported files against the model they were made from: average precision and time of each artefact.

    python benchmarks/exports.py blood-cells DATA --size 320x416

Every form takes images stretched to one size. AP is what `focus-detr evaluate` says of the split; ``found``
is the share of the eager model's detections (score 0.3 or more) that a form finds, too: the same class, with
an overlap of 0.9 or more. ``AP_low`` and ``AP_high`` bound the form's AP less the eager one's, as `focus-detr
compare` does. ``kept`` is the share of the tokens which the eager encoder works on that an
OpenVINO form selects, too, on the same pictures. INT8 is calibrated on pictures of ``--calibrate``. Times are
of one forward pass, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import main, parser, size, timing_columns, write

from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor, Predictor, resolve_model
from focus_detr.benchmarking import take_turns
from focus_detr.data import load_dataset
from focus_detr.data.dataset import DetectionDataset
from focus_detr.deploy.deploy import deploy
from focus_detr.evaluation import evaluate
from focus_detr.evaluation.comparison import compare, read_evaluated
from focus_detr.export import export
from focus_detr.export.openvino import shared_core
from focus_detr.images.reading import read_image
from focus_detr.inference import Detections

FORMS = {
    "ONNX Runtime fp32": ("onnx", "fp32"),
    "ONNX Runtime fp16": ("onnx", "fp16"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO fp16": ("openvino", "fp16"),
    "OpenVINO int8": ("openvino", "int8"),
    "torch.export fp32": ("torch-export", "fp32"),
}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
_OVERLAP, _SCORE = 0.9, 0.3


def predictors(
    name: str, image_size: tuple[int, int], folder: Path, pictures: list[Path]
) -> Iterator[tuple[str, Predictor, float, Path | None]]:
    """Every form of the model, its megabytes, and its file."""
    source = resolve_model(name)
    height, width = image_size
    processor = FocusDetrImageProcessor.from_pretrained(source, size={"height": height, "width": width})
    model = FocusDetrForObjectDetection.from_pretrained(source).float().eval()
    weights = sum(p.numel() for p in model.parameters()) * 4 / 1e6
    yield "eager", Predictor(model, processor), weights, None
    yield "deployed", Predictor(deploy(model), processor), weights, None
    for form, (format, precision) in FORMS.items():
        path = folder / f"{format}-{precision}{SUFFIXES[format]}"
        shape: dict[str, Any] = {"image_size": image_size, "batch_size": 1}
        calibration = pictures if precision == "int8" else None
        export(name, path, format, precision=precision, calibration=calibration, **shape)
        size = sum(file.stat().st_size for file in folder.glob(f"{path.stem}.*"))
        yield form, Predictor.from_pretrained(path), size / 1e6, path


def work(predictor: Predictor, image_size: tuple[int, int]) -> Callable[[], object]:
    """One forward pass."""
    images = torch.randn(1, 3, *image_size, generator=torch.Generator().manual_seed(1))
    model: Any = predictor.model

    def forward() -> object:
        with torch.no_grad():
            return model.infer(images) if hasattr(model, "infer") else model(images)

    return forward


def share_found(found: list[Detections], wanted: list[Detections]) -> float:
    """Share of wanted detections that are among those found."""
    hits = total = 0
    for mine, theirs in zip(found, wanted, strict=True):
        total += len(theirs.scores)
        if not len(mine.scores) or not len(theirs.scores):
            continue
        one, other = torch.as_tensor(theirs.boxes_xyxy), torch.as_tensor(mine.boxes_xyxy)
        low = torch.maximum(one[:, None, :2], other[None, :, :2])
        high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
        overlap = shared / (areas[0][:, None] + areas[1][None] - shared)
        alike = torch.as_tensor(theirs.labels)[:, None] == torch.as_tensor(mine.labels)[None]
        hits += int(((overlap >= _OVERLAP) & alike).any(1).sum())
    return hits / max(1, total)


def share_kept(path: Path, eager: Predictor, pictures: list[Path]) -> float:
    """Share of the tokens of the eager model's first encoder layer that an OpenVINO file selects."""
    graph = shared_core().read_model(path)
    selection = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "TopK")
    graph.add_outputs(selection.output(1))
    compiled = shared_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    shares = []
    for picture in pictures:
        images = eager.processor(images=[read_image(picture)], return_tensors="pt")["pixel_values"]
        wanted = eager.model(images).plan.indices[0].tolist()
        kept = compiled(images.numpy())[compiled.outputs[-1]][0].tolist()
        shares.append(len(set(wanted) & set(kept)) / len(wanted))
    return sum(shares) / len(shares)


def run(options: argparse.Namespace) -> None:
    dataset = load_dataset(options.data, options.split)
    assert isinstance(dataset, DetectionDataset)
    pictures = [record.path for record in dataset.records[: options.pictures]]
    rows: list[dict[str, Any]] = []
    works: dict[str, Callable[[], object]] = {}
    wanted: list[Detections] = []
    eager: Predictor | None = None
    calibration = [record.path for record in load_dataset(options.data, options.calibrate).records]
    with tempfile.TemporaryDirectory() as folder:
        for form, predictor, megabytes, path in predictors(
            options.model, options.size, Path(folder), calibration
        ):
            eager = eager or predictor
            found = list(predictor.predict(pictures, threshold=_SCORE))
            wanted = wanted or found
            report = evaluate(predictor, options.data, split=options.split, progress=False)
            summary = report.metrics.summary
            report.save(Path(folder) / form)
            difference = compare(
                [read_evaluated(Path(folder) / "eager")], [read_evaluated(Path(folder) / form)]
            ).measures["AP"]
            rows.append({
                "form": form, "size": f"{options.size[0]}x{options.size[1]}",
                "megabytes": round(megabytes, 1), "images": len(dataset),
                "AP": round(summary["AP"], 4), "AP50": round(summary["AP50"], 4),
                "AP_low": round(difference.low, 4), "AP_high": round(difference.high, 4),
                "found": round(share_found(found, wanted), 4),
                "kept": round(share_kept(path, eager, pictures), 4) if path and path.suffix == ".xml" else "",
            })  # fmt: skip
            print("evaluated:", *rows[-1].values(), flush=True)
            works[form] = work(predictor, options.size)
        timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
    for row in rows:
        row |= timing_columns(timings[row["form"]], timings["eager"])
    write("exports", rows, options.output)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=2, runs=20)
    arguments.add_argument("model")
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--split", default="test")
    arguments.add_argument("--calibrate", default="train", help="split that INT8 takes its ranges from")
    arguments.add_argument("--size", type=size, default=(320, 416), help="HxW of the images")
    arguments.add_argument(
        "--pictures", type=int, default=20, help="of the split, whose detections are compared"
    )
    main(run, arguments.parse_args())

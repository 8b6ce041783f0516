"""Other detectors on the same input: those of transformers with random weights, and ONNX files.

    python benchmarks/peers.py --threads 2 --onnx FOLDER

Two comparisons, each in turns on one image. Small, at 416x416: focus-detr-nano and -lite0, eager, deployed,
in ONNX Runtime and in OpenVINO, also in INT8 (calibrated on noise: speed does not depend on it), against
PicoDet-S 416 (`picodet_s_416_coco.onnx`) and YOLOX-nano (`yolox_nano.onnx`) of the folder given, in ONNX
Runtime and in OpenVINO. Middle, at 640x640: focus-detr-r50 at keep ratio 0.3, eager, deployed and in
OpenVINO, against RT-DETR v2 R50 and Deformable DETR R50, D-FINE and others that transformers builds here
without torchvision, timm or the network, all eager. Forward passes alone: what comes after (suppression, for
PicoDet and YOLOX) is not in it. Speed is half of a comparison: the weights here are random; AP is what
`focus-detr evaluate` measures. `times_faster` is against PicoDet-S in ONNX Runtime, and RT-DETR v2.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from common import main, parser, picture_of_times, random_images, random_model, timing_columns, write
from PIL import Image
from transformers import ResNetConfig

from focus_detr.benchmarking import take_turns
from focus_detr.export import export
from focus_detr.image_processing import FocusDetrImageProcessor
from focus_detr.inference.deploy import deploy

Work = Callable[[], object]
EXPORTS = {"onnx": ("fp32",), "openvino": ("fp32", "int8")}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RT-DETR v2 R50": ("RTDetrV2", {}),
    "Deformable DETR R50": ("DeformableDetr", {"two_stage": True, "with_box_refine": True}),
    "D-FINE L": ("DFine", {}),
    "RF-DETR": ("RfDetr", {}),
    "LW-DETR": ("LwDetr", {}),
}
RIVALS = {"small": "PicoDet-S onnxruntime", "middle": "RT-DETR v2 R50"}
ONNX_PEERS = {"PicoDet-S": "picodet_s_416_coco.onnx", "YOLOX-nano": "yolox_nano.onnx"}


def run(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        groups = {
            "small": lambda: small_works(options, Path(folder)),
            "middle": lambda: middle_works(options, Path(folder)),
        }
        for name in options.groups.split(","):
            works, parameters, side = groups[name]()
            timings = take_turns(works, options.runs, warmup=options.warmup, pause=options.pause)
            rival = RIVALS[name]
            first = timings.get(rival, next(iter(timings.values())))
            for label, timing in timings.items():
                columns = timing_columns(timing, first)
                rows.append({
                    "group": name, "model": label, "size": f"{side}x{side}",
                    "parameters_m": parameters.get(label, ""), **columns,
                })  # fmt: skip
    path = write("peers", rows, options.output)
    labels = [f"{row['model']} {row['size']}" for row in rows]
    title = f"Peers, {options.threads} thread(s)"
    picture_of_times(rows, labels, title, path.with_suffix(".png"))


def small_works(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Work], dict[str, float], int]:
    """Models for edge boxes, at 416x416."""
    side = 416
    images = random_images(side, side)
    works: dict[str, Work] = {}
    parameters: dict[str, float] = {}
    for name in ("focus-detr-nano", "focus-detr-lite0"):
        model = random_model(name)
        forms = ours(name, model, images) | exported(name, model, images, folder, options, EXPORTS)
        parameters |= {label: millions(model) for label in forms}
        works |= forms
    for name, file in ONNX_PEERS.items():
        if options.onnx is None or not (options.onnx / file).is_file():
            print(f"{name}: left out, {file} is not in the folder of --onnx", flush=True)
        else:
            works[f"{name} onnxruntime"] = onnx_work(options.onnx / file, options.threads, side)
            works[f"{name} openvino fp32"] = openvino_work(options.onnx / file, options.threads, side)
    return works, parameters, side


def middle_works(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Work], dict[str, float], int]:
    """Models of about 40 million parameters, at 640x640."""
    side = 640
    images = random_images(side, side)
    model = random_model("focus-detr-r50", keep_ratio=0.3)
    works: dict[str, Work] = ours("focus-detr-r50 keep 0.3", model, images)
    works |= exported("focus-detr-r50 keep 0.3", model, images, folder, options, {"openvino": ("fp32",)})
    parameters = {label: millions(model) for label in works}
    for name, (family, fields) in PEERS.items():
        try:
            peer = transformers_peer(family, fields)
            peer(images)
        except Exception as error:  # whatever they raise: a peer that this input does not suit is no result
            print(f"{name}: left out: {type(error).__name__}: {str(error)[:120]}", flush=True)
            continue
        works[name] = lambda peer=peer: peer(images)
        parameters[name] = millions(peer)
    return works, parameters, side


def ours(name: str, model: Any, images: torch.Tensor) -> dict[str, Work]:
    """Eager first, which the others are compared with, then deployed."""
    quick = deploy(model)
    return {f"{name} eager": lambda: model(images), f"{name} deployed": lambda: quick(images)}


def exported(
    name: str, model: Any, images: torch.Tensor, folder: Path, options: argparse.Namespace,
    forms: dict[str, tuple[str, ...]],
) -> dict[str, Work]:  # fmt: skip
    """The model's files in their runtimes."""
    works: dict[str, Work] = {}
    if not options.export:
        return works
    height, width = images.shape[2:]
    processor = FocusDetrImageProcessor(size={"height": height, "width": width})
    noise = np.random.default_rng(0)
    pictures = [
        Image.fromarray(noise.integers(0, 255, (height, width, 3), dtype=np.uint8)) for _ in range(10)
    ]
    for format, precisions in forms.items():
        for precision in precisions:
            path = folder / f"{name}-{precision}{'.xml' if format == 'openvino' else '.onnx'}"
            export(
                model, path, format, image_size=(height, width), batch_size=1, processor=processor,
                precision=precision, calibration=pictures if precision == "int8" else None,
            )  # fmt: skip
            runtime = "openvino" if format == "openvino" else "onnxruntime"
            works[f"{name} {runtime} {precision}"] = file_work(path, images, options.threads)
    return works


def file_work(path: Path, images: torch.Tensor, threads: int) -> Work:
    """A pass of one of our files, in as many threads as everything else."""
    if path.suffix == ".xml":
        return openvino_work(path, threads, images.shape[2])
    return onnx_work(path, threads, images.shape[2])


def openvino_work(path: Path, threads: int, side: int) -> Work:
    """A pass of a file in OpenVINO, ones where it wants more than the image."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    graph = openvino.Core().read_model(path)
    images = random_images(side, side).numpy()
    sizes = {
        port: [1, 3, side, side] if len(port.partial_shape) == 4 else [1, *port.partial_shape.to_shape()[1:]]
        for port in graph.inputs
    }
    graph.reshape(sizes)
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    feeds = [images if len(shape) == 4 else np.ones(shape, np.float32) for shape in sizes.values()]
    return lambda: compiled(feeds)


def transformers_peer(family: str, fields: dict[str, Any]) -> torch.nn.Module:
    """A detector of transformers for 80 classes, by its default configuration, with random weights."""
    settings = {"num_labels": 80, **fields}
    if family == "DeformableDetr":
        backbone = ResNetConfig(out_features=["stage2", "stage3", "stage4"])
        settings |= {
            "backbone_config": backbone,
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
        }
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForObjectDetection")(config).eval()


def onnx_work(path: Path, threads: int, side: int) -> Work:
    """A pass of an ONNX file, for ones where it wants more than the image."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    # Weights listed as inputs, as older writers do, cannot be folded: the file would run slower than it can.
    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=providers)
    feeds = {}
    for each in session.get_inputs():
        shape = [length if isinstance(length, int) else 1 for length in each.shape]
        if len(shape) == 4:
            feeds[each.name] = random_images(side, side).numpy()
        else:
            feeds[each.name] = np.ones(shape, np.float32)
    return lambda: session.run(None, feeds)


def millions(model: torch.nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--onnx", type=Path, help="folder of the ONNX peers")
    arguments.add_argument("--groups", default="small,middle")
    arguments.add_argument("--export", action=argparse.BooleanOptionalAction, default=True)
    main(run, arguments.parse_args())

"""Other detectors on the same input: those of transformers with random weights, and ONNX files.

    python benchmarks/peers.py --threads 2 --onnx FOLDER

Two comparisons, each in turns on one image. Small, at 416x416: focus-detr-nano and -lite0, eager, deployed,
in ONNX Runtime and in OpenVINO, also in INT8 (calibrated on noise: speed does not depend on it), against
PicoDet-S 416 (`picodet_s_416_coco.onnx`) and YOLOX-nano (`yolox_nano.onnx`) of the folder given, in ONNX
Runtime and in OpenVINO. Middle, at 640x640: focus-detr-r50 (mean keep ratio 0.3), eager, deployed and in
OpenVINO, against RT-DETR v2 R50 and Deformable DETR R50, D-FINE and others that transformers builds here
without torchvision, timm or the network, all eager. Forward passes alone: what comes after (suppression, for
PicoDet and YOLOX) is not in it. Speed is half of a comparison: the weights here are random; AP is what
`focus-detr evaluate` measures. `times_faster` is against PicoDet-S in ONNX Runtime, and RT-DETR v2.

    python benchmarks/peers.py --groups everyday --onnx FOLDER

compares the bundled model `everyday` with the two ONNX files, and has YOLOX-nano to be faster than.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from common import main, parser, picture_of_times, random_images, random_model, timing_columns, write
from exported import Work, export_at, exported_work, noise, onnx_work, openvino_work
from transformers import ResNetConfig

from focus_detr.benchmarking import take_turns
from focus_detr.deploy.deploy import deploy
from focus_detr.zoo.loading import load_model
from focus_detr.zoo.resolve import resolve_model

EXPORTS = {"onnx": ("fp32",), "openvino": ("fp32", "int8")}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RT-DETR v2 R50": ("RTDetrV2", {}),
    "Deformable DETR R50": ("DeformableDetr", {"two_stage": True, "with_box_refine": True}),
    "D-FINE L": ("DFine", {}),
    "RF-DETR": ("RfDetr", {}),
    "LW-DETR": ("LwDetr", {}),
}
GROUPS = "small,middle"
RIVALS = {"everyday": "YOLOX-nano onnxruntime", "small": "PicoDet-S onnxruntime", "middle": "RT-DETR v2 R50"}
ONNX_PEERS = {"PicoDet-S": "picodet_s_416_coco.onnx", "YOLOX-nano": "yolox_nano.onnx"}


def run(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        groups = {
            "everyday": lambda: everyday_works(options, Path(folder)),
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
    others = set(options.groups.split(",")) - set(GROUPS.split(","))
    path = write("_".join(["peers", *sorted(others)]), rows, options.output)
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
    return works | onnx_peers(options, images), parameters, side


def everyday_works(
    options: argparse.Namespace, folder: Path
) -> tuple[dict[str, Work], dict[str, float], int]:
    """The bundled model of COCO's classes, and the detectors that it is to be compared with, at 416x416."""
    side = 416
    images = random_images(side, side)
    model = load_model(resolve_model("everyday"))
    forms = {"onnx": ("fp32",), "openvino": ("fp32",)}
    works = ours("everyday", model, images) | exported("everyday", model, images, folder, options, forms)
    return works | onnx_peers(options, images), {label: millions(model) for label in works}, side


def onnx_peers(options: argparse.Namespace, images: torch.Tensor) -> dict[str, Work]:
    works: dict[str, Work] = {}
    for name, file in ONNX_PEERS.items():
        if options.onnx is None or not (options.onnx / file).is_file():
            print(f"{name}: left out, {file} is not in the folder of --onnx", flush=True)
        else:
            works[f"{name} onnxruntime"] = onnx_work(options.onnx / file, images, options.threads)
            works[f"{name} openvino fp32"] = openvino_work(options.onnx / file, images, options.threads)
    return works


def middle_works(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Work], dict[str, float], int]:
    """Models of about 40 million parameters, at 640x640."""
    side = 640
    images = random_images(side, side)
    model = random_model("focus-detr-r50")
    works: dict[str, Work] = ours("focus-detr-r50", model, images)
    works |= exported("focus-detr-r50", model, images, folder, options, {"openvino": ("fp32",)})
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
    for format, precisions in forms.items():
        for precision in precisions:
            path = folder / f"{name}-{precision}{'.xml' if format == 'openvino' else '.onnx'}"
            pictures = noise(images) if precision == "int8" else None
            export_at(model, path, format, images, precision=precision, calibration=pictures)
            runtime = "openvino" if format == "openvino" else "onnxruntime"
            works[f"{name} {runtime} {precision}"] = exported_work(path, images, options.threads)
    return works


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


def millions(model: torch.nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--onnx", type=Path, help="folder of the ONNX peers")
    arguments.add_argument("--groups", default=GROUPS)
    arguments.add_argument("--export", action=argparse.BooleanOptionalAction, default=True)
    main(run, arguments.parse_args())

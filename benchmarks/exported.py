"""Exported files as work to be timed: in their runtimes, in as many threads as everything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from focus_detr.export import export, load_exported
from focus_detr.export.openvino import shared_core
from focus_detr.images.processor import FocusDetrImageProcessor

Work = Callable[[], object]


def export_at(model: Any, path: Path, format: str, images: torch.Tensor, **options: Any) -> Path:
    """The file of a model for one image of the size of ``images`` (1,3,H,W)."""
    height, width = images.shape[2:]
    processor = FocusDetrImageProcessor(size={"height": height, "width": width})
    shape: dict[str, Any] = {"image_size": (height, width), "batch_size": 1}
    return export(model, path, format, processor=processor, **shape, **options)


def own_work(path: Path, image_size: tuple[int, int]) -> Work:
    """A pass of a file that `focus-detr export` wrote, as predictors run it."""
    images = torch.randn(1, 3, *image_size, generator=torch.Generator().manual_seed(1)).numpy()
    model = load_exported(path)
    return lambda: model.infer(images)


def megabytes(path: Path) -> float:
    """Of a file, with the weights that OpenVINO writes beside it."""
    files = [file for file in (path, path.with_suffix(".bin")) if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def noise(images: torch.Tensor, count: int = 10) -> list[Image.Image]:
    """Pictures of noise, of the size of ``images``, to calibrate INT8 where only its speed is asked for."""
    generator = np.random.default_rng(0)
    height, width = images.shape[2:]
    return [
        Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8)) for _ in range(count)
    ]


def exported_work(path: Path, images: torch.Tensor, threads: int) -> Work:
    """A pass of an .onnx file in ONNX Runtime, or of any file in OpenVINO."""
    if path.suffix == ".onnx":
        return onnx_work(path, images, threads)
    return openvino_work(path, images, threads)


def onnx_work(path: Path, images: torch.Tensor, threads: int) -> Work:
    """In ONNX Runtime; ones where a file wants more than the image."""
    session = onnx_session(path, threads)
    feeds = {}
    for each in session.get_inputs():
        shape = [length if isinstance(length, int) else 1 for length in each.shape]
        feeds[each.name] = images.numpy() if len(shape) == 4 else np.ones(shape, np.float32)
    return lambda: session.run(None, feeds)


def onnx_session(path: Path, threads: int) -> Any:
    """A file in ONNX Runtime."""
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
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=providers)


def openvino_work(path: Path, images: torch.Tensor, threads: int) -> Work:
    """In OpenVINO, told to compute what is float in float32; ones where a file wants more than the image."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    graph = shared_core().read_model(path)
    sizes = {}
    for port in graph.inputs:
        fixed = [1 if length.is_dynamic else length.get_length() for length in port.partial_shape]
        sizes[port] = list(images.shape) if len(fixed) == 4 else fixed
    graph.reshape(sizes)
    compiled = shared_core().compile_model(graph, "CPU", settings)
    feeds = [images.numpy() if len(shape) == 4 else np.ones(shape, np.float32) for shape in sizes.values()]
    return lambda: compiled(feeds)

"""TensorRT: ONNX for its parser, and a script that builds an engine where TensorRT is installed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from focus_detr.export import onnx
from focus_detr.export.metadata import Metadata

if TYPE_CHECKING:
    from focus_detr.models import FocusDetrForObjectDetection

_LARGEST_TOP_K = 3840  # of TensorRT's TopK layer
_LARGEST_BATCH = 16

_SCRIPT = """#!/bin/sh
# Builds {engine} from {onnx}. It needs TensorRT 10 or newer with its trtexec, and the GPU it will run on.
# Full precision on purpose: --fp16 also rounds scores and coordinates, and changes which tokens are kept.
set -eu
cd "$(dirname "$0")"
trtexec --onnx={onnx} --saveEngine={engine} --noTF32{shapes} "$@"
"""


def write(model: FocusDetrForObjectDetection, path: Path, metadata: Metadata) -> None:
    """Write `path` and `<name>.build-engine.sh` beside it."""
    onnx.write(model, path, metadata)
    largest = largest_top_k(path)
    if largest > _LARGEST_TOP_K:
        warnings.warn(
            f"{path.name}: sorts out the best {largest} of an image's tokens, and TensorRT's TopK gives "
            f"{_LARGEST_TOP_K} at most: export a smaller image size, or a model with a smaller keep_ratio",
            RuntimeWarning,
            stacklevel=3,
        )
    shapes = ""
    if metadata.batch_size is None and metadata.image_size is not None:
        height, width = metadata.image_size
        batches = (("min", 1), ("opt", 1), ("max", _LARGEST_BATCH))
        shapes = "".join(f" --{name}Shapes=pixel_values:{n}x3x{height}x{width}" for name, n in batches)
    script = path.with_suffix(".build-engine.sh")
    engine = path.with_suffix(".engine").name
    script.write_text(_SCRIPT.format(onnx=path.name, engine=engine, shapes=shapes), encoding="utf-8")
    script.chmod(0o755)


def largest_top_k(path: Path) -> int:
    """The largest constant K of an ONNX file's TopK nodes."""
    from onnx import load, numpy_helper

    graph = load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    counts = [node.input[1] for node in graph.node if node.op_type == "TopK"]
    return max(
        (int(numpy_helper.to_array(constants[name]).item()) for name in counts if name in constants),
        default=0,
    )

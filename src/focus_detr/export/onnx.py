"""ONNX: operators of opset 20 only; runs on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.export.budgets import INPUT, take_counts
from focus_detr.export.metadata import KEY, Metadata
from focus_detr.export.outside import refuse_outside
from focus_detr.export.packages import need

if TYPE_CHECKING:
    from focus_detr.export.tolerance import Tolerance
    from focus_detr.inference.sources.named import NamedImage
    from focus_detr.models import FocusDetrForObjectDetection

OPSET = 20  # the first whose GridSample all runtimes agree on


def write(
    model: FocusDetrForObjectDetection,
    path: Path,
    metadata: Metadata,
    insights: Sequence[str] = (),
    pictures: list[NamedImage] | None = None,
    tolerance: Tolerance | None = None,
    trained_ranges: bool = False,
) -> None:
    """Write the model as ONNX; `insights` (see `tracing.insights`) of this model are outputs, too.

    In INT8 where pictures are given, or in the model's ``trained_ranges``: the file then has operators that
    quantize and dequantize (QDQ).
    """
    onnx = need("onnx")
    optimizer = need("onnxscript.optimizer")
    passes = need("onnx_ir.passes.common")
    import torch

    from focus_detr.export.tracing import quiet, trace

    layers = 0 if metadata.budgets is None else len(metadata.budgets.cascade)
    form: dict[str, Any] = {"sampler": "grid_sample", "stable_sort": False, "telling": bool(insights)}
    form |= {"free_counts": layers > 0, "size_step": metadata.size_step}
    graph = trace(model, metadata.image_size, metadata.batch_size, **form)
    inputs = ["pixel_values", *(f"rows_{layer}" for layer in range(layers))]
    names: dict[str, Any] = {"input_names": inputs, "output_names": [*metadata.outputs, *insights]}
    with quiet():
        # Runtimes fuse operators better themselves, and the exporter's own rewriting takes most of the time.
        program = torch.onnx.export(graph, opset_version=OPSET, optimize=False, verbose=False, **names)
        assert program is not None
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        # Where each operator came from: a fifth of a small file, and names of files of this machine.
        passes.ClearMetadataAndDocStringPass()(program.model)
        program.model.metadata_props[KEY] = metadata.to_json()
        program.save(path)
        if layers:
            take_counts(path, layers)
    if trained_ranges:
        from focus_detr.export.trained_ranges import in_trained_ranges

        onnx.save(in_trained_ranges(onnx.load(path), model), path)
    if pictures is not None:
        from focus_detr.export.quantization import in_8_bits

        graph = in_8_bits(onnx.load(path), model, metadata, pictures, tolerance, onnx.save, path)
        onnx.save(graph, path)


class Session:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, device: str) -> None:
        runtime = need("onnxruntime")
        providers = ["CPUExecutionProvider"]
        if device != "cpu":
            name = f"{device.split(':')[0].upper()}ExecutionProvider"
            if name not in runtime.get_available_providers():
                raise FocusDetrError(
                    f"device={device!r}: this ONNX Runtime has no {name}; install the build that has it, "
                    "or use device='cpu'"
                )
            providers.insert(0, name)
        refuse_outside(path)
        try:
            self.session = runtime.InferenceSession(path, providers=providers)
        except Exception as error:  # the runtime's errors share no base
            raise FocusDetrError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_json(properties.get(KEY), path)

    def run(self, pixel_values: np.ndarray, counts: np.ndarray | None = None) -> list[np.ndarray]:
        """pixel_values (B,3,H,W) -> logits (B,Q,k), pred_boxes (B,Q,4), and others of `metadata.outputs`."""
        inputs = {"pixel_values": pixel_values} | ({} if counts is None else {INPUT: counts})
        return self.session.run(self.metadata.outputs, inputs)

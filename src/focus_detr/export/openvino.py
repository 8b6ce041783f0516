"""OpenVINO: an .xml with the graph and a .bin with the weights."""

from __future__ import annotations

import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.deploy.recent import Recent
from focus_detr.errors import FocusDetrError
from focus_detr.export import onnx
from focus_detr.export.budgets import INPUT
from focus_detr.export.metadata import KEY, Metadata
from focus_detr.export.packages import need

if TYPE_CHECKING:
    from focus_detr.export.tolerance import Tolerance
    from focus_detr.inference.sources.named import NamedImage
    from focus_detr.models import FocusDetrForObjectDetection

_GRAPHS = 8  # kept compiled, of a file that takes budgets


def write(
    model: FocusDetrForObjectDetection,
    path: Path,
    metadata: Metadata,
    pictures: list[NamedImage] | None = None,
    tolerance: Tolerance | None = None,
    trained_ranges: bool = False,
) -> None:
    """Write the model as OpenVINO's intermediate representation; in INT8 where pictures are given,
    or in the model's ``trained_ranges``."""
    openvino = need("openvino")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.write(model, source, metadata, trained_ranges=trained_ranges)
        converted = openvino.convert_model(source)

    def save(graph: Any, path: Path) -> None:
        graph.set_rt_info(metadata.to_json(), [KEY])
        openvino.save_model(graph, path, compress_to_fp16=False)

    if pictures is not None:
        from focus_detr.export.quantization import in_8_bits

        converted = in_8_bits(converted, model, metadata, pictures, tolerance, save, path)
    save(converted, path)


@cache
def shared_core() -> Any:
    """OpenVINO's, of the process, and never let go.

    Where there is AMX, each core gives its thread another stack for signals, and takes the one before back
    when it ends. Of two that end in the order in which they began, the second takes back one that is gone;
    the next signal with a handler then kills the process: a child's end, once a data loader has had workers.
    """
    return need("openvino").Core()


class Session:
    """An .xml file in OpenVINO, computed in float32.

    OpenVINO takes up to 1.8 times as long where shapes follow from an input. Of a file of one size that takes
    budgets, a graph is compiled for each of the counts asked for, as constants; the last ones are kept.
    """

    def __init__(self, path: Path, device: str) -> None:
        self._core = shared_core()
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise FocusDetrError(f"{path}: OpenVINO cannot load it: {error}") from error
        model = self._model
        text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        self.metadata = Metadata.from_json(text, path)
        self._target = "CPU" if device == "cpu" else device.upper()
        self._one_at_a_time = threading.Lock()
        self._compiled: Recent[Any] = Recent(_GRAPHS)
        budgets = self.metadata.budgets
        self.fixed = budgets is not None and budgets.tokens is not None
        try:
            # What cannot be compiled is said now, and not at the first picture.
            self._graph(budgets.counts(None, 0, 0) if budgets is not None and self.fixed else None)
        except RuntimeError as error:
            devices = ", ".join(self._core.available_devices)
            raise FocusDetrError(f"device={device!r}: OpenVINO has {devices} here: {error}") from error

    def run(self, pixel_values: np.ndarray, counts: np.ndarray | None = None) -> list[np.ndarray]:
        """pixel_values (B,3,H,W) -> logits (B,Q,k), pred_boxes (B,Q,4), and others of `metadata.outputs`."""
        inputs = {"pixel_values": pixel_values}
        if counts is not None and not self.fixed:
            inputs[INPUT] = counts
        graph = self._graph(counts if self.fixed else None)
        with self._one_at_a_time:  # a compiled graph has one request, which refuses a second thread
            results = graph(inputs)
        return [results[name] for name in self.metadata.outputs]

    def _graph(self, counts: np.ndarray | None) -> Any:
        """The compiled graph; with these counts as constants, where they are given."""
        key = None if counts is None else tuple(counts.tolist())
        return self._compiled.get(key, lambda: self._compile(counts))

    def _compile(self, counts: np.ndarray | None) -> Any:
        model = self._model
        if counts is not None:
            from openvino import opset13

            model = model.clone()
            (given,) = [each for each in model.get_parameters() if INPUT in each.output(0).get_names()]
            given.output(0).replace(opset13.constant(counts).output(0))
            model.remove_parameter(given)
        # Left alone, CPUs that can compute in bfloat16 do, and the tokens selected are then others.
        return self._core.compile_model(model, self._target, {"INFERENCE_PRECISION_HINT": "f32"})

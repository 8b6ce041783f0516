"""OpenVINO: an .xml with the graph and a .bin with the weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.export import onnx
from focus_detr.export.metadata import KEY, Metadata
from focus_detr.export.packages import need

if TYPE_CHECKING:
    from focus_detr.inference.sources.named import NamedImage
    from focus_detr.models import FocusDetrForObjectDetection


def write(
    model: FocusDetrForObjectDetection,
    path: Path,
    metadata: Metadata,
    pictures: list[NamedImage] | None = None,
) -> None:
    """Write the model as OpenVINO's intermediate representation; in INT8 where pictures are given."""
    openvino = need("openvino")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.write(model, source, metadata)
        converted = openvino.convert_model(source)
    if pictures is not None:
        from focus_detr.export.quantization import quantized

        converted = quantized(converted, model, metadata, pictures)
    converted.set_rt_info(metadata.to_json(), [KEY])
    openvino.save_model(converted, path, compress_to_fp16=False)


class Session:
    """An .xml file in OpenVINO, computed in float32."""

    def __init__(self, path: Path, device: str) -> None:
        openvino = need("openvino")
        core = openvino.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise FocusDetrError(f"{path}: OpenVINO cannot load it: {error}") from error
        text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        self.metadata = Metadata.from_json(text, path)
        target = "CPU" if device == "cpu" else device.upper()
        # Left alone, CPUs that can compute in bfloat16 do, and the tokens selected are then others.
        try:
            self.compiled = core.compile_model(model, target, {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            devices = ", ".join(core.available_devices)
            raise FocusDetrError(f"device={device!r}: OpenVINO has {devices} here: {error}") from error

    def run(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """pixel_values (B,3,H,W) -> logits (B,Q,k), pred_boxes (B,Q,4)."""
        results = self.compiled(pixel_values)
        return results["logits"], results["pred_boxes"]

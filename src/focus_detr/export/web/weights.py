"""Files that are loaded over a network: small graphs, and one file of weights for those of one model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from focus_detr.export.packages import need

_SMALLEST = 1024  # bytes; less stays in the graph
_ALIGNMENT = 64


def without_remarks(path: Path) -> None:
    """Take out of an ONNX file what the exporter remarks of each node, a tenth of the file."""
    onnx = need("onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in [*model.graph.value_info, *model.graph.initializer]:
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    onnx.save(model, path)


def share_weights(graphs: Sequence[Path], weights: Path) -> None:
    """Move the weights of ONNX files into one file beside them, each different one once."""
    onnx = need("onnx")
    external = onnx.TensorProto.EXTERNAL
    places: dict[bytes, int] = {}
    with open(weights, "wb") as file:
        for path in graphs:
            model = onnx.load(path)
            for tensor in model.graph.initializer:
                content = tensor.raw_data
                if len(content) < _SMALLEST:
                    continue
                key = hashlib.sha256(content).digest()
                if key not in places:
                    file.write(bytes(-file.tell() % _ALIGNMENT))
                    places[key] = file.tell()
                    file.write(content)
                tensor.ClearField("raw_data")
                tensor.data_location = external
                said = {"location": weights.name, "offset": places[key], "length": len(content)}
                for name, value in said.items():
                    entry = tensor.external_data.add()
                    entry.key, entry.value = name, str(value)
            onnx.save(model, path)

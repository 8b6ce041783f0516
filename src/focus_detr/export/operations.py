"""The operations of a graph, of ONNX or OpenVINO, and which layer of the model each belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from focus_detr.deploy.precision import coarse_layers
from focus_detr.errors import FocusDetrError

PRODUCTS = ("Conv", "Convolution", "GroupConvolution", "Gemm", "MatMul")


@dataclass(frozen=True)
class Operation:
    """One node of a graph.

    Attributes:
        kind: as the format calls it.
        inputs: names of the operations whose results it takes.
        constants: what it takes that is written in the file.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    constants: tuple[np.ndarray, ...]


def operations_of(graph: Any) -> list[Operation]:
    """Of an `onnx.ModelProto` or an `openvino.Model`, in the order of computation."""
    return _of_openvino(graph) if hasattr(graph, "get_ordered_ops") else _of_onnx(graph)


def coarse_groups(operations: Iterable[Operation], model: Any) -> dict[str, list[str]]:
    """Names of operations by the block of ``model`` (a stage, a feed-forward network) that they belong to.

    Those of what `coarse_layers` names but for the neck, and of all that the backbone computes; no others.
    The neck's few products make what tokens are scored and selected by, and their inputs can be channels of
    different kinds (of a backbone with towers for classes and for boxes) that would share a range.

    Writing a graph renames its operations and transposes its weights: a layer is known by its weights. What
    has none, as a sum, goes with the layer before it.
    """
    layers: dict[bytes, str] = {}
    for name, layer in coarse_layers(model).items():
        weight = layer.state_dict()["weight"].numpy()
        layers[_key(weight)] = layers[_key(weight.T)] = name
    known = {operation.name: operation for operation in operations}
    owners = {name: _owner(each, layers) for name, each in known.items()}
    necks = [name for name, owner in owners.items() if owner is not None and owner.startswith("neck.")]
    if not necks:
        raise FocusDetrError("int8: the graph's neck is not that of the model it should be of")
    backbone = _ancestors(necks, known)
    groups: dict[str, list[str]] = {}
    group = "backbone"
    for name in known:
        owner = owners[name]
        if owner is not None and owner.startswith("neck."):
            continue
        if owner is not None:
            group = _block(owner)
        elif name not in backbone:
            continue
        groups.setdefault(group, []).append(name)
    return groups


def _owner(operation: Operation, layers: dict[bytes, str]) -> str | None:
    """The layer whose weights a product multiplies by."""
    if operation.kind not in PRODUCTS:
        return None
    return next((layers[key] for each in operation.constants if (key := _key(each)) in layers), None)


def _block(layer: str) -> str:
    """As in encoder.layers.0.ffn, backbone.model.stages.0 or backbone.model.encoder.stages.0."""
    parts = layer.split(".")
    return ".".join(parts[: 5 if parts[4:] and parts[4].isdigit() else 4])


def _key(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _ancestors(names: Iterable[str], known: dict[str, Operation]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for name in known[waiting.pop()].inputs:
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _of_openvino(graph: Any) -> list[Operation]:
    found = []
    for node in graph.get_ordered_ops():
        sources = [port.get_source_output().get_node() for port in node.inputs()]
        constants = [each.data for each in sources if each.get_type_name() == "Constant"]
        inputs = [each.get_friendly_name() for each in sources]
        found.append(
            Operation(node.get_friendly_name(), node.get_type_name(), tuple(inputs), tuple(constants))
        )
    return found


def _of_onnx(graph: Any) -> list[Operation]:
    from onnx import numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    makers = {output: node.name for node in graph.graph.node for output in node.output}
    return [
        Operation(
            node.name,
            node.op_type,
            tuple(makers[each] for each in node.input if each in makers),
            tuple(constants[each] for each in node.input if each in constants),
        )
        for node in graph.graph.node
    ]

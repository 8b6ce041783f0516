"""INT8 in the ranges of a training for 8 bits: operators that quantize and dequantize, written into ONNX.

What `focus_detr.models.eight_bits` rounded in training is rounded here by the same steps. All else is as in
post-training quantization (`focus_detr.export.quantization`), but that no sum or activation between layers
is quantized.
"""

# Shapes: C output channels.

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.deploy.precision import coarse_layers
from focus_detr.errors import FocusDetrError
from focus_detr.export.operations import PRODUCTS
from focus_detr.models.eight_bits import LARGEST, LEVELS, SMALLEST, weight_scale

if TYPE_CHECKING:
    import torch

    from focus_detr.models import FocusDetrForObjectDetection

_WEIGHT = 1  # which input of a product it is


def mark_ranges(model: FocusDetrForObjectDetection, ranges: Mapping[str, Any]) -> None:
    """Tell layers the range of their inputs, before they are fused and their names are others.

    Raises:
        FocusDetrError: the model has no such layer.
    """
    known = dict(model.named_modules())
    for name, (low, high) in ranges.items():
        if name not in known:
            raise FocusDetrError(
                f"activation_ranges: this model has no layer {name!r}; take them out of its config.json, or "
                "give --calibration PICTURES"
            )
        known[name].input_range = (float(low), float(high))


def in_trained_ranges(graph: Any, model: FocusDetrForObjectDetection) -> Any:
    """An `onnx.ModelProto` of ``model`` whose marked layers compute in 8 bits, in place.

    A layer is known by its weights, as everywhere (`operations.coarse_groups`).

    Raises:
        FocusDetrError: a marked layer is not in the graph.
    """
    from onnx import numpy_helper

    layers: dict[str, Any] = {
        name: layer
        for name, layer in coarse_layers(model).items()
        if getattr(layer, "input_range", None) is not None
    }
    known: dict[bytes, tuple[str, bool]] = {}  # its name, and whether the weight is transposed
    for name, layer in layers.items():
        weight = _weight_of(layer).numpy()
        known[_bytes(weight.T)] = (name, True)
        known[_bytes(weight)] = (name, False)
    constants = {each.name: each for each in graph.graph.initializer}
    writer, found = _Writer(graph.graph), set()
    for node in list(graph.graph.node):
        if node.op_type not in PRODUCTS or len(node.input) < 2 or node.input[_WEIGHT] not in constants:
            continue
        values = numpy_helper.to_array(constants[node.input[_WEIGHT]])
        if (layer_found := known.get(_bytes(values))) is None:
            continue
        name, transposed = layer_found
        layer = layers[name]
        found.add(name)
        node.input[_WEIGHT] = writer.weight(node.input[_WEIGHT], layer, transposed)
        node.input[0] = writer.rounded(node.input[0], layer.input_range)
    writer.finish()
    dropped = model.config.used_decoder_layers is not None
    if missing := sorted(each for each in set(layers) - found if not (dropped and each.startswith("host."))):
        raise FocusDetrError(f"int8: the graph has no layer {missing[0]}, which it was trained for")
    return graph


class _Writer:
    """Adds operators to a graph, before those that take what they give."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._made: dict[tuple[Any, ...], str] = {}
        self._nodes: list[tuple[str, Any]] = []  # what has to be there before, and the operator
        self._replaced: set[str] = set()

    def rounded(self, name: str, input_range: tuple[float, float]) -> str:
        """The tensor ``name``, in 8 bits of a range."""
        key = (name, input_range)
        if key not in self._made:
            low, high = np.float32(input_range[0]), np.float32(input_range[1])
            scale = np.maximum((high - low) / np.float32(LEVELS), np.float32(SMALLEST))
            zero = np.clip(np.round(-low / scale), 0, LEVELS).astype(np.uint8)
            base = f"{name}_in_8_bits_{len(self._made)}"
            steps = [self._constant(f"{base}_scale", scale), self._constant(f"{base}_zero", zero)]
            self._node("QuantizeLinear", [name, *steps], f"{base}_rounded")
            self._node("DequantizeLinear", [f"{base}_rounded", *steps], base)
            self._made[key] = base
        return self._made[key]

    def weight(self, name: str, layer: Any, transposed: bool) -> str:
        """A layer's weight, which the graph holds under ``name``, in 8 bits with a step a channel."""
        key = (name,)
        if key not in self._made:
            weight = _weight_of(layer)
            step = weight_scale(weight)
            shape = (-1, *(1 for _ in weight.shape[1:]))
            whole = (weight / step.view(shape)).round().clamp(-LARGEST, LARGEST).numpy().astype(np.int8)
            whole = whole.T if transposed else whole
            axis = whole.ndim - 1 if transposed else 0
            base = f"{name}_in_8_bits"
            values = self._constant(f"{base}_whole", whole)
            scale = self._constant(f"{base}_scale", step.numpy())
            zero = self._constant(f"{base}_zero", np.zeros(len(step), dtype=np.int8))
            self._node("DequantizeLinear", [values, scale, zero], base, axis=axis)
            self._made[key] = base
            self._replaced.add(name)
        return self._made[key]

    def finish(self) -> None:
        """Put the operators where what they take is there already, and drop weights that nobody takes."""
        made = {output: place for place, node in enumerate(self.graph.node) for output in node.output}
        behind: dict[int, list[Any]] = {}
        of_new: dict[str, int] = {}
        for source, node in self._nodes:
            place = of_new.get(source, made.get(source, -1))
            behind.setdefault(place, []).append(node)
            for output in node.output:
                of_new[output] = place
        nodes = list(behind.get(-1, []))
        for place, node in enumerate(list(self.graph.node)):
            nodes += [node, *behind.get(place, [])]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        taken = {name for node in self.graph.node for name in node.input}
        for each in [each for each in self.graph.initializer if each.name in self._replaced - taken]:
            self.graph.initializer.remove(each)

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        node = helper.make_node(kind, inputs, [output], name=output, **attributes)
        self._nodes.append((inputs[0], node))


def _weight_of(layer: Any) -> torch.Tensor:
    weight: torch.Tensor = layer.state_dict()["weight"]
    return weight.float()


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()

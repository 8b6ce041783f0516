"""Graphs in the layouts of other detectors, which answer the same of every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

SIDE = 64
CELLS = {8: 8 * 8, 16: 4 * 4, 32: 2 * 2}


def write_graph(path: Path, outputs: Sequence[np.ndarray], sides: Sequence[int | str] = (SIDE, SIDE)) -> Path:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names = [f"output{number}" for number in range(len(outputs))]
    values = [onnx.numpy_helper.from_array(each.astype(np.float32)) for each in outputs]
    nodes = [
        helper.make_node("Constant", [], [name], value=value)
        for name, value in zip(names, values, strict=True)
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", kind, [1, 3, *sides])],
        [
            helper.make_tensor_value_info(name, kind, each.shape)
            for name, each in zip(names, outputs, strict=True)
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def write_yolox(path: Path, cells: Mapping[int, Sequence[float]], classes: int = 3) -> Path:
    """Scores of classes at cells; a box of 16 pixels in the middle of each of the finest level."""
    output = np.zeros((1, sum(CELLS.values()), 5 + classes))
    output[..., :4] = 0.5, 0.5, np.log(2), np.log(2)
    output[..., 4] = 1.0
    for cell, scores in cells.items():
        output[0, cell, 5:] = scores
        if cell == 10:  # beside the ninth, of which it is a copy
            output[0, cell, 0] = -0.25
    return write_graph(path, [output])

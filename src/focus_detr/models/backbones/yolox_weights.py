"""Weights of YOLOX from its published ONNX file, read by `onnx` (the extra "export")."""

# Shapes: C channels, k classes.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedConfig

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.yolox import YoloxConfig

LEVELS = 3
_PREDICTIONS = ("cls_preds", "reg_preds", "obj_preds")


@dataclass(frozen=True)
class YoloxHeads:
    """The last layers of a level's towers: linear maps of the channels C of a tower.

    Attributes:
        classes: weight (k,C) and bias (k,), of the tower of classes.
        boxes: (4,C) and (4,), of the tower of boxes: offset of the centre from the cell's corner and
            logarithm of the size, in strides.
        objectness: (1,C) and (1,), of the tower of boxes.
    """

    classes: tuple[Tensor, Tensor]
    boxes: tuple[Tensor, Tensor]
    objectness: tuple[Tensor, Tensor]


def read_yolox(path: str | Path, config: PreTrainedConfig) -> tuple[dict[str, Tensor], list[YoloxHeads]]:
    """The state dict of a backbone of ``config``, and the heads of each level, fine to coarse.

    The file's convolutions come in the order in which they are computed, with batch norms folded in. It takes
    BGR pixels 0..255, which are made RGB and 0..1.

    Raises:
        FocusDetrError: `onnx` is not installed, or the file cannot be read or holds another network.
    """
    convolutions, heads = _read_convolutions(Path(path))
    with torch.device("meta"):
        whole = AutoBackbone.from_config(_with_every_map(config))
    ours = {name: part for name, part in whole.named_modules() if isinstance(part, nn.Conv2d)}
    if len(ours) != len(convolutions):
        raise FocusDetrError(
            f"{path}: holds {len(convolutions)} convolutions besides its predictions, and a YOLOX of depths "
            f"{config.depths} has {len(ours)}; is it yolox_nano.onnx, batch norms folded in?"
        )
    state: dict[str, Tensor] = {}
    for (name, part), (weight, bias) in zip(ours.items(), convolutions, strict=True):
        if name == "stem.convolution" and weight.shape[1] == 4 * part.in_channels:
            weight = _of_pixels(weight)
        if weight.shape != part.weight.shape:
            raise FocusDetrError(
                f"{path}: its convolution number {len(state) // 2} has a weight {list(weight.shape)}, where "
                f"{name} of a YOLOX with hidden_sizes {config.hidden_sizes} has {list(part.weight.shape)}"
            )
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    return state, heads


def _with_every_map(config: PreTrainedConfig) -> PreTrainedConfig:
    every: dict[str, Any] = {"out_features": config.stage_names, "out_indices": None}
    return YoloxConfig(**{**config.to_dict(), **every})


def _of_pixels(weight: Tensor) -> Tensor:
    """(C,12,3,3) over 2x2 squares of BGR pixels 0..255 as (C,3,6,6) over RGB pixels 0..1.

    Over pixels up to 255 the steps of a training would be far too long for this layer alone.
    """
    # The squares' pixels come as top left, bottom left, top right, bottom right.
    squares = 255 * weight.unflatten(1, (2, 2, 3)).flip(3)  # (C, column, row, RGB, 3, 3)
    return squares.permute(0, 3, 4, 2, 5, 1).flatten(4).flatten(2, 3)


def _read_convolutions(path: Path) -> tuple[list[tuple[Tensor, Tensor]], list[YoloxHeads]]:
    """Weights and biases in the graph's order without those of predictions, and these by level."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise FocusDetrError(
            f"{path}: reading weights from an ONNX file needs onnx; run: pip install 'focus-detr[export]'"
        ) from error
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's errors and the system's share no base
        raise FocusDetrError(f"{path}: cannot be read as an ONNX file: {error}") from error
    values = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    ordered, named = [], {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        if len(node.input) != 3 or any(name not in values for name in node.input[1:]):
            raise FocusDetrError(
                f"{path}: its convolution {node.name!r} has no constant weight and bias; export it with "
                "constants and batch norms folded in"
            )
        weight, bias = (values[name].float() for name in node.input[1:])
        if any(kind in node.input[1] for kind in _PREDICTIONS):
            named[node.input[1].removesuffix(".weight")] = (weight.flatten(1), bias)
        else:
            ordered.append((weight, bias))
    try:
        heads = [
            YoloxHeads(*(named[f"head.{kind}.{level}"] for kind in _PREDICTIONS)) for level in range(LEVELS)
        ]
    except KeyError as error:
        raise FocusDetrError(f"{path}: is no YOLOX: it has no layer {error.args[0]!r}") from error
    return ordered, heads

"""Budgets of exported files: how many tokens each encoder layer works on is an input of the graph."""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on.

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.structures.budget import Budget, layer_counts

if TYPE_CHECKING:
    from focus_detr.models import FocusDetrForObjectDetection

ANY = "any"
"""What callers say for a graph whose budget is an input."""
INPUT = "counts"
"""Name of that input: (layers,) int64, K_j of each encoder layer, never more than the one before."""


@dataclass(frozen=True)
class TakenBudgets:
    """What turns a budget into the counts that a graph takes.

    Attributes:
        keep_ratio, cascade: of the policy, which has these where no budget is said.
        budget: the one that the model is set to; None where its own shares hold.
        usual: the mean share that the model was trained for, or is set to.
        strides: input pixels a cell of each level, fine to coarse.
        tokens: N, of a graph of one size; None where the size is free, and N follows from the strides.
    """

    keep_ratio: float
    cascade: tuple[float, ...]
    budget: float | None
    usual: float
    strides: tuple[int, ...]
    tokens: int | None

    @classmethod
    def of(cls, model: FocusDetrForObjectDetection, image_size: tuple[int, int] | None) -> TakenBudgets:
        """Of a model.

        Raises:
            FocusDetrError: what its layers work on is not a matter of counts.
        """
        policy, config = model.encoder, model.config
        if not policy.nested:
            raise FocusDetrError(
                f"budget={ANY!r}: a graph of token_policy={config.token_policy!r} has its counts fixed; give "
                "a number, and write a file for each of several budgets"
            )
        keep_ratio, cascade = policy.keeps()
        usual = keep_ratio * sum(cascade) / len(cascade)
        if (config.training_recipe or {}).get("task") == "any-budget":
            usual = 1.0
        budget = None if config.budget is None else float(config.budget)
        strides = tuple(model.strides)
        found = cls(keep_ratio, tuple(cascade), budget, budget or usual, strides, None)
        height, width = image_size or (192, 256)
        tokens = _tokens(model, height, width)
        if image_size is not None:
            return cls(keep_ratio, tuple(cascade), budget, budget or usual, strides, tokens)
        if found.num_tokens(height, width) != tokens:
            raise FocusDetrError(
                f"budget={ANY!r}: how many tokens this backbone makes of a size does not follow from its "
                "strides; fix the size, by --size HEIGHTxWIDTH"
            )
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TakenBudgets:
        """From what a file holds."""
        lists = {name: tuple(values[name]) for name in ("cascade", "strides")}
        return cls(**{**values, **lists})

    def num_tokens(self, height: int, width: int) -> int:
        """N of an image of ``height`` x ``width`` pixels, as the graph sees it."""
        if self.tokens is not None:
            return self.tokens
        return sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in self.strides)

    def counts(self, budget: Budget | None, height: int, width: int) -> np.ndarray:
        """(layers,) int64: K_j at a budget, those of the model itself."""
        chosen = Budget.of(self.budget) if budget is None else budget
        shares = (self.keep_ratio, self.cascade) if chosen is None else chosen.cascade(*self._keeps())
        return np.array(layer_counts(self.num_tokens(height, width), *shares), dtype=np.int64)

    def _keeps(self) -> tuple[float, tuple[float, ...]]:
        return self.keep_ratio, self.cascade


def has_regular_levels(model: FocusDetrForObjectDetection) -> bool:
    """Whether a level has ceil(side / stride) cells a side, whatever the image's size."""
    height, width = 187, 251
    regular = sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in model.strides)
    return _tokens(model, height, width) == regular


def _tokens(model: FocusDetrForObjectDetection, height: int, width: int) -> int:
    import torch

    with torch.no_grad():
        _, geometry = model.extract_levels(torch.zeros(1, 3, height, width), None)
    return geometry.num_tokens


def take_counts(path: Path, layers: int) -> None:
    """Change an ONNX file whose inputs are rows_0, rows_1, ..., of K_j - K_{j+1} numbers each, so that it
    takes the counts K_j themselves (`INPUT`)."""
    from onnx import TensorProto, helper, load, numpy_helper, save

    model = load(path)
    graph = model.graph
    rows = [f"rows_{layer}" for layer in range(layers)]
    for value in [each for each in graph.input if each.name in rows]:
        graph.input.remove(value)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.INT64, [layers]))
    constants = {"none": [0], "second": [1], "end": [layers + 1], "ones": [1] * layers}
    for name, numbers in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), f"{INPUT}_{name}"))
    parts = [f"{INPUT}_left_by_{layer}" for layer in range(layers)]
    nodes = [
        helper.make_node("Concat", [INPUT, f"{INPUT}_none"], [f"{INPUT}_and_none"], axis=0),
        helper.make_node(
            "Slice", [f"{INPUT}_and_none", f"{INPUT}_second", f"{INPUT}_end"], [f"{INPUT}_next"]
        ),
        helper.make_node("Sub", [INPUT, f"{INPUT}_next"], [f"{INPUT}_left"]),
        helper.make_node("Split", [f"{INPUT}_left", f"{INPUT}_ones"], parts, axis=0),
        *(helper.make_node("ConstantOfShape", [part], [row]) for part, row in zip(parts, rows, strict=True)),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    save(model, path)

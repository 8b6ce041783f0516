"""Detectors that others exported: boxes lie where the published layouts say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.export.foreign import PicoDet, Yolox, load_foreign
from helpers.foreign import SIDE, write_graph, write_yolox


def test_boxes_of_picodet_lie_where_cells_and_distances_say() -> None:
    # Cell (row 1, column 2) of stride 8, 3 cells to each side, is 24 pixels around (20, 12).
    cells = [(416 + stride - 1) // stride for stride in (8, 16, 32, 64)]
    distributions = [np.zeros((1, count**2, 32), np.float32) for count in cells]
    distributions[0][0, 52 + 2].reshape(4, 8)[:, 3] = 50.0
    scores = [np.zeros((1, count**2, 80), np.float32) for count in cells]
    pico = PicoDet(lambda images: [*scores, *distributions], (416, 416))
    _, boxes = pico.infer(torch.zeros(1, 3, 416, 416), torch.ones(1, 416, 416))
    torch.testing.assert_close(boxes[0, 52 + 2] * 416, torch.tensor([20.0, 12.0, 48.0, 48.0]))


@pytest.mark.parametrize("decoded", [False, True])
def test_boxes_of_yolox_lie_where_offsets_say(decoded: bool) -> None:
    # The same cell, half of it to the right, and 16 pixels wide; on a picture half as high.
    output = np.zeros((1, 52**2 + 26**2 + 13**2, 85), np.float32)
    output[0, 52 + 2, :5] = 0.5, 0.0, np.log(2), 0.0, 1.0
    output[0, 52 + 2, 5 + 7] = 0.8
    if decoded:
        output[..., 2:4] = 25.0  # what others there may be
        output[0, 52 + 2, :4] = 20.0, 8.0, 16.0, 8.0
    seen = []
    yolox = Yolox(lambda images: seen.append(images) or [output], (416, 416))
    picture = torch.zeros(1, 3, 208, 416)
    picture[:, 0] = 200.0
    logits, boxes = yolox.infer(picture, torch.ones(1, 208, 416))
    expected = torch.tensor([20.0, 8.0, 16.0, 8.0]) / torch.tensor([416.0, 208.0, 416.0, 208.0])
    torch.testing.assert_close(boxes[0, 52 + 2], expected)
    assert logits[0, 52 + 2].argmax() == 7 and logits[0, 52 + 2, 7].sigmoid().item() == pytest.approx(0.8)
    assert seen[0][0, :, 0, 0].tolist() == [0, 0, 200] and seen[0][0, :, 300, 0].tolist() == [114] * 3


def test_layouts_are_told_by_their_shapes(tmp_path: Path) -> None:
    yolox = load_foreign(write_yolox(tmp_path / "yolox.onnx", {}), ["a", "b", "c"])
    assert yolox is not None and isinstance(yolox.model, Yolox) and yolox.class_names == ("a", "b", "c")
    cells = [(SIDE // stride) ** 2 for stride in (8, 16, 32, 64)]
    outputs = [np.zeros((1, count, columns)) for columns in (80, 32) for count in cells]
    pico = load_foreign(write_graph(tmp_path / "pico.onnx", outputs))
    assert pico is not None and isinstance(pico.model, PicoDet) and pico.class_names[0] == "person"


@pytest.mark.parametrize(
    ("outputs", "sides", "said"),
    [
        (
            [np.zeros((1, 84, 5))],
            (SIDE, SIDE),
            r"its outputs \(1x84x5\) are of no layout that is read: YOLOX",
        ),
        ([np.zeros((1, 83, 8))], (SIDE, SIDE), "1x83x8"),
        ([np.zeros((1, 84, 8))], (SIDE, "width"), "of fixed size is read"),
        ([np.zeros((1, 84, 12))], (SIDE, SIDE), "has 7 classes, and 2 names are given"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, outputs: list, sides: tuple, said: str) -> None:
    path = write_graph(tmp_path / "other.onnx", outputs, sides)
    with pytest.raises(FocusDetrError, match=said):
        load_foreign(path, ["a", "b"])

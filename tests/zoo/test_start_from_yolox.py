"""What scripts/start_from_yolox.py writes predicts, before any training, what the file's heads do."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from focus_detr import FocusDetrForObjectDetection
from focus_detr.zoo.presets import preset
from helpers.yolox_file import HEADS, SMALL, write_yolox

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
PUBLISHED = Path(os.environ.get("YOLOX_NANO_ONNX", ROOT / "shared/weights/yolox_nano.onnx"))
SIDE = 416


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "start_from_yolox.py"))


def predicted_by_file(path, names, pixels):
    """Class logits with objectness (N,k) and boxes_cxcywh (N,4) of all cells."""
    graph = onnx.load(path)
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(names, {session.get_inputs()[0].name: pixels.flip(1).numpy()})
    maps = [torch.from_numpy(each)[0].flatten(1).T for each in outputs]
    logits, boxes = [], []
    for classes, box, objectness in (maps[i : i + 3] for i in range(0, 9, 3)):
        side = int(len(box) ** 0.5)
        corner = torch.stack(
            [torch.arange(side).repeat(side), torch.arange(side).repeat_interleave(side)], -1
        )
        boxes.append(torch.cat([box[:, :2] + corner, box[:, 2:].exp()], -1) / side)
        logits.append(classes + objectness)
    return torch.cat(logits), torch.cat(boxes)


@torch.no_grad()
def check(script, path, names, pixels, **fields):
    model = FocusDetrForObjectDetection(preset("focus-detr-yolox-nano", **fields)).eval()
    script["start_from_yolox"](model, path)
    told = model.host.precedence.told
    drop = told(torch.tensor([[0.0], [0.5], [0.8], [1.0]])) @ model.host.class_heads[-1].weight.T  # (4,k)
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None] * -script["SUPPRESSED"]
    torch.testing.assert_close(drop, expected.expand_as(drop), rtol=0, atol=1e-3)
    model.host.precedence = None  # what comes before it
    logits, boxes = predicted_by_file(path, names, pixels)
    output = model(pixels / 255)
    expected = script["SLOPE"] * logits + script["SHIFT"]
    chosen = expected.amax(-1).topk(20).indices
    # Each of the file's best cells is among the queries, with its classes and its box.
    for wanted, box in zip(expected[chosen], boxes[chosen], strict=True):
        distance = 10 * (output.pred_boxes[0] - box).abs().amax(-1) + (output.logits[0] - wanted).abs().mean(
            -1
        )
        nearest = int(distance.argmin())
        # Norms rescale tokens a little, one by one.
        assert torch.corrcoef(torch.stack([output.logits[0, nearest], wanted]))[0, 1] > 0.95
        torch.testing.assert_close(output.logits[0, nearest], wanted, rtol=0.2, atol=0.5)
        torch.testing.assert_close(output.pred_boxes[0, nearest], box, rtol=0.05, atol=0.002)


def test_a_file_of_the_layout_is_started_from(script, tmp_path):
    write_yolox(tmp_path / "yolox.onnx", SMALL)
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0, 2, (1, 3, SIDE, SIDE)).astype(np.float32))
    backbone = preset("focus-detr-yolox-nano").backbone_config
    for name in ("hidden_sizes", "depths", "tower_channels"):
        setattr(backbone, name, getattr(SMALL, name))
    check(script, tmp_path / "yolox.onnx", HEADS, pixels, backbone_config=backbone)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="YOLOX_NANO_ONNX=PATH names no yolox_nano.onnx")
def test_the_published_file_is_started_from(script):
    names = ["1045", "1062", "1063", "1087", "1104", "1105", "1129", "1146", "1147"]
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, SIDE, SIDE)).astype(np.float32))
    check(script, PUBLISHED, names, pixels)

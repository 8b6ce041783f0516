"""INT8 in trained ranges: files compute what the model computed in training, in both runtimes."""

import numpy as np
import pytest
import torch

from focus_detr import FocusDetrImageProcessor
from focus_detr.deploy.precision import coarse_layers
from focus_detr.errors import FocusDetrError
from focus_detr.export import export, load_exported
from focus_detr.models.eight_bits import round_layers, rounded_layers
from helpers.small_models import SHALLOW, small_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SIZE = (96, 128)


@pytest.fixture(scope="module")
def trained():
    """A model with ranges, and what it answers when its layers are rounded."""
    model = small_model(**SHALLOW)
    pixels = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    layers = {n: each for n, each in coarse_layers(model).items() if not n.startswith("neck.")}
    kinds = {name: type(each) for name, each in layers.items()}
    round_layers(layers, 1.0, {})
    with torch.no_grad():
        for each in rounded_layers(model).values():
            each.training = True  # watched, while batch norms are not
        model(pixels)
        model.eval()
        answer = model(pixels)
    ranges = {name: list(each.watched.known()) for name, each in rounded_layers(model).items()}
    for name, each in layers.items():
        each.__class__ = kinds[name]
    model.config.activation_ranges = ranges
    with torch.no_grad():
        whole = model(pixels)
    assert (whole.logits - answer.logits).abs().median() > 1e-2  # rounding is seen
    return model, pixels, answer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.onnx", pytest.param("m.xml", marks=pytest.mark.slow)])
def test_a_file_computes_what_was_trained(trained, tmp_path, name):
    model, pixels, answer = trained
    format = "onnx" if name.endswith("onnx") else "openvino"
    path = export(
        model, tmp_path / name, format, image_size=SIZE, batch_size=1, precision="int8",
        processor=FocusDetrImageProcessor(),
    )  # fmt: skip
    logits, boxes = load_exported(path).infer(pixels.numpy())
    # A value that lies between two steps may be rounded to the other one: of most values, none is.
    for found, wanted in ((logits, answer.logits), (boxes, answer.pred_boxes)):
        assert np.median(np.abs(found - wanted.numpy())) < 1e-4
    if format == "onnx":
        import onnx

        graph = onnx.load(path).graph
        kinds = [node.op_type for node in graph.node]
        layers = len(model.config.activation_ranges)
        assert kinds.count("QuantizeLinear") > layers / 2 and kinds.count("DequantizeLinear") > layers
        whole = {each.name: each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8}
        assert len([name for name in whole if name.endswith("_whole")]) == layers


def test_what_was_not_trained_for_it_needs_pictures(tmp_path):
    model = small_model(**SHALLOW)
    with pytest.raises(FocusDetrError, match="go together.*train --eight-bits"):
        export(model, tmp_path / "m.onnx", precision="int8", processor=FocusDetrImageProcessor())
    model.config.activation_ranges = {"backbone.none": [0.0, 1.0]}
    with pytest.raises(FocusDetrError, match="has no layer 'backbone.none'"):
        export(model, tmp_path / "m.onnx", precision="int8", processor=FocusDetrImageProcessor())

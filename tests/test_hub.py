"""The model is a citizen of transformers."""

import json

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection, pipeline

import focus_detr.auto  # noqa: F401
from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, FocusDetrImageProcessor


def picture(height=80, width=100):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@torch.no_grad()
def test_a_saved_model_is_the_same_model(tiny_model, tmp_path):
    model = FocusDetrForObjectDetection.from_pretrained(tiny_model)
    inputs = FocusDetrImageProcessor.from_pretrained(tiny_model)(picture(), return_tensors="pt")
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = FocusDetrForObjectDetection.from_pretrained(tmp_path)
    assert torch.equal(model(**inputs).logits, again(**inputs).logits)
    double = FocusDetrForObjectDetection.from_pretrained(tmp_path, dtype=torch.float64)
    found = double(inputs["pixel_values"].double(), inputs["pixel_mask"])
    torch.testing.assert_close(found.logits, model(**inputs).logits.double(), rtol=0, atol=1e-3)


def test_the_file_says_what_the_model_is(tiny_model):
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["id2label"] == {"0": "cell", "1": "dot"}
    assert config["model_type"] == "focus_detr" and config["quirks"]["frozen_values"] is False
    assert config["architectures"] == ["FocusDetrForObjectDetection"]
    assert {"position_temperature", "position_offset", "cascade", "keep_ratio"} <= config.keys()


def test_auto_classes(tiny_model):
    assert isinstance(AutoConfig.from_pretrained(tiny_model), FocusDetrConfig)
    assert isinstance(AutoModelForObjectDetection.from_pretrained(tiny_model), FocusDetrForObjectDetection)
    assert isinstance(AutoImageProcessor.from_pretrained(tiny_model), FocusDetrImageProcessor)


def test_pipeline(tiny_model, caplog):
    detect = pipeline("object-detection", model=str(tiny_model), threshold=0.0)
    assert "not supported" not in caplog.text
    found = detect(picture())
    assert len(found) == 16 and {"score", "label", "box"} <= found[0].keys()
    assert {each["label"] for each in found} <= {"cell", "dot"}
    for each in found:
        assert 0 <= each["box"]["xmin"] <= each["box"]["xmax"] <= 100
        assert 0 <= each["box"]["ymin"] <= each["box"]["ymax"] <= 80

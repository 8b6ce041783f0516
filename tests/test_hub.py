"""The model is a citizen of transformers."""

import json

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection, pipeline

import focus_detr.auto  # noqa: F401
from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.models.configuration import Quirks


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


def test_what_is_frozen_stays_frozen(tiny_model, tmp_path):
    config = FocusDetrConfig.from_pretrained(tiny_model, freeze_stages=2)
    new = FocusDetrForObjectDetection(config)
    new.save_pretrained(tmp_path)
    loaded = FocusDetrForObjectDetection.from_pretrained(tmp_path)
    frozen = {name for name, value in new.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, value in loaded.named_parameters() if not value.requires_grad}
    assert {name.split(".")[3] for name in frozen if "stages" in name} == {"0", "1"}
    auto = AutoModelForObjectDetection.from_pretrained(tmp_path)
    assert frozen == {name for name, value in auto.named_parameters() if not value.requires_grad}


def test_the_file_says_what_the_model_is(tiny_model):
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["id2label"] == {"0": "cell", "1": "dot"}
    assert config["model_type"] == "focus_detr" and config["quirks"]["frozen_values"] is False
    assert config["architectures"] == ["FocusDetrForObjectDetection"]
    assert config["num_queries"] == 8 and config["backbone_config"]["model_type"]
    assert {"position_temperature", "position_offset"} <= config.keys()
    assert {"cascade", "keep_ratio", "num_fine_tokens", "top_down"} <= config["policy_options"].keys()
    assert {"denoising_queries", "label_noise", "box_noise"} <= config["host_options"].keys()


def test_names_ids_and_quirks_come_back(tiny_model, tmp_path):
    model = FocusDetrForObjectDetection.from_pretrained(
        tiny_model, category_ids=[5, 90], quirks={"frozen_values": True}
    )
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["category_ids"] == [5, 90] and saved["quirks"]["frozen_values"] is True
    config = FocusDetrForObjectDetection.from_pretrained(tmp_path).config
    assert config.id2label == {0: "cell", 1: "dot"} and config.label2id == {"cell": 0, "dot": 1}
    assert config.category_ids == [5, 90] and config.switches == Quirks(frozen_values=True)


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


def test_pipeline_of_a_model_and_its_processor(tiny_model):
    model = FocusDetrForObjectDetection.from_pretrained(tiny_model)
    processor = FocusDetrImageProcessor.from_pretrained(tiny_model)
    detect = pipeline("object-detection", model=model, image_processor=processor)
    everything = detect(picture(), threshold=0.0)
    scores = sorted((each["score"] for each in everything), reverse=True)
    kept = detect(picture(), threshold=scores[3] - 1e-6)
    assert len(everything) == 16 and len(kept) == sum(score > scores[3] - 1e-6 for score in scores) < 16
    assert [len(each) for each in detect([picture(), picture(60, 40)], threshold=0.0)] == [16, 16]


def gradients_and_calls(folder, checkpointing):
    model = FocusDetrForObjectDetection.from_pretrained(folder).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    calls = []
    for part in (model.encoder.layers[0].ffn, model.host.decoder.layers[0].ffn, model.backbone.model):
        part.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    label = {
        "class_labels": torch.tensor([0, 1]),
        "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.5, 0.4]]),
        "size": torch.tensor([80, 100]),
    }
    torch.manual_seed(0)
    model(torch.randn(1, 3, 80, 100), None, [label]).loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, len(calls)


def test_gradient_checkpointing_changes_no_gradient(tiny_model):
    (plain, once), (saving, twice) = (gradients_and_calls(tiny_model, on) for on in (False, True))
    assert (once, twice) == (3, 6)  # both layers and the backbone were computed again on the way back
    assert plain.keys() == saving.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(saving[name], gradient, msg=name)

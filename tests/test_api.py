"""The facade, and transformers' Auto classes, on a tiny model saved to a folder."""

import numpy as np
import pytest
from PIL import Image

from focus_detr import FocusDetr, FocusDetrConfig, FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.errors import FocusDetrError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    config = FocusDetrConfig.from_preset(
        "focus-detr-lite0",
        id2label={0: "cell", 1: "dot"},
        label2id={"cell": 0, "dot": 1},
        d_model=32,
        attention_heads=4,
        encoder_layers=1,
        decoder_layers=1,
        cascade=[0.5],
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=8,
        num_detections=8,
        num_fine_tokens=8,
    )
    FocusDetrForObjectDetection(config).save_pretrained(path)
    FocusDetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(path)
    return path


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(2)]


def test_three_lines_predict(folder, images):
    model = FocusDetr(folder, device="cpu")
    assert model.class_names == ("cell", "dot")
    found = model.predict(images, threshold=0.0, batch_size=2)
    assert len(found) == 2
    assert all(detections.image_size == (48, 64) and len(detections) for detections in found)


def test_an_unreadable_image_is_left_out(folder, images, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    assert len(FocusDetr(folder, device="cpu").predict([images[0], tmp_path / "broken.jpg"])) == 1


def test_a_saved_model_predicts_the_same(folder, images, tmp_path):
    model = FocusDetr(folder, device="cpu")
    copy = FocusDetr(model.save(tmp_path / "copy"), device="cpu")
    before, after = (each.predict(images, threshold=0.0) for each in (model, copy))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_a_preset_must_be_trained_before_it_predicts(images):
    model = FocusDetr("focus-detr-lite0")
    for use in (lambda: model.predict(images), lambda: model.evaluate("data"), lambda: model.save("folder")):
        with pytest.raises(FocusDetrError, match=r"'focus-detr-lite0' is a configuration without.*train"):
            use()


def test_training_starts_from_what_the_name_says_and_gives_the_trained_model(folder, monkeypatch):
    from types import SimpleNamespace

    import focus_detr.training

    calls = []

    def train(data, **options):
        calls.append((data, options))
        return SimpleNamespace(model=folder)

    monkeypatch.setattr(focus_detr.training, "train", train, raising=False)
    for name in ("focus-detr-lite0", str(folder)):
        assert FocusDetr(name, device="cpu").train("data", output="runs/x").folder == folder
        assert calls.pop() == ("data", {"model": name, "device": "cpu", "output": "runs/x"})


def test_transformers_auto_classes_know_the_models(folder):
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection

    import focus_detr.auto  # noqa: F401

    assert type(AutoConfig.from_pretrained(folder)) is FocusDetrConfig
    assert type(AutoModelForObjectDetection.from_pretrained(folder)) is FocusDetrForObjectDetection
    assert type(AutoImageProcessor.from_pretrained(folder)) is FocusDetrImageProcessor

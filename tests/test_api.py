"""The facade, and transformers' Auto classes, on a tiny model saved to a folder."""

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from focus_detr import FocusDetr, FocusDetrConfig, FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.errors import FocusDetrError
from focus_detr.inference import Predictor


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(2)]


def test_three_lines_predict(tiny_model, images):
    model = FocusDetr(tiny_model, device="cpu")
    assert model.class_names == ("cell", "dot")
    found = model.predict(images, threshold=0.0, batch_size=2)
    assert len(found) == 2
    assert all(detections.image_size == (48, 64) and len(detections) for detections in found)


def test_threads_that_ask_at_once_share_one_model(tiny_model, images, monkeypatch):
    loaded, load = [], Predictor.from_pretrained
    monkeypatch.setattr(
        Predictor, "from_pretrained", lambda *args, **options: loaded.append(args) or load(*args, **options)
    )
    model = FocusDetr(tiny_model, device="cpu", deploy=True)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: model.predict(images, threshold=0.0), range(8)))
    assert len(loaded) == 1
    for detections in found[1:]:
        for one, other in zip(detections, found[0], strict=True):
            np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_an_unreadable_image_is_left_out(tiny_model, images, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    assert len(FocusDetr(tiny_model, device="cpu").predict([images[0], tmp_path / "broken.jpg"])) == 1


def test_a_saved_model_predicts_the_same(tiny_model, images, tmp_path):
    model = FocusDetr(tiny_model, device="cpu")
    copy = FocusDetr(model.save(tmp_path / "copy"), device="cpu")
    before, after = (each.predict(images, threshold=0.0) for each in (model, copy))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_a_deployed_model_predicts_the_same(tiny_model, images):
    plain = FocusDetr(tiny_model, device="cpu").predict(images, threshold=0.0)
    model = FocusDetr(tiny_model, device="cpu", deploy=True)
    assert type(model.predictor.model).__name__ == "DeployedFocusDetr"
    for one, other in zip(plain, model.predict(images, threshold=0.0, batch_size=2), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.05)


def test_a_preset_must_be_trained_before_it_predicts(images):
    model = FocusDetr("focus-detr-lite0")
    for use in (lambda: model.predict(images), lambda: model.evaluate("data"), lambda: model.save("folder")):
        with pytest.raises(FocusDetrError, match=r"'focus-detr-lite0' is a configuration without.*train"):
            use()


def test_training_starts_from_what_the_name_says_and_gives_the_trained_model(tiny_model, monkeypatch):
    import focus_detr.training

    calls = []

    def train(data, **options):
        calls.append((data, options))
        return SimpleNamespace(model=tiny_model)

    monkeypatch.setattr(focus_detr.training, "train", train, raising=False)
    for name in ("focus-detr-lite0", str(tiny_model)):
        assert FocusDetr(name, device="cpu").train("data", output="runs/x").folder == tiny_model
        assert calls.pop() == ("data", {"model": name, "device": "cpu", "output": "runs/x"})


@pytest.mark.parametrize(
    "imported",
    ["focus_detr; focus_detr.FocusDetrConfig", pytest.param("focus_detr.auto", marks=pytest.mark.slow)],
)
def test_auto_classes_know_the_models_after(imported, tiny_model):
    code = (
        f"import {imported}\nfrom transformers import AutoModelForObjectDetection\n"
        f"print(type(AutoModelForObjectDetection.from_pretrained({str(tiny_model)!r})).__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "FocusDetrForObjectDetection"


def test_an_unknown_device_is_refused_at_once():
    with pytest.raises(FocusDetrError, match="device='foo'"):
        FocusDetr("blood-cells", device="foo")


def test_transformers_auto_classes_know_the_models(tiny_model):
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection

    import focus_detr.auto  # noqa: F401

    assert type(AutoConfig.from_pretrained(tiny_model)) is FocusDetrConfig
    assert type(AutoModelForObjectDetection.from_pretrained(tiny_model)) is FocusDetrForObjectDetection
    assert type(AutoImageProcessor.from_pretrained(tiny_model)) is FocusDetrImageProcessor


def test_a_model_travels_to_other_processes_by_its_name(tiny_model, images, monkeypatch, tmp_path):
    model = FocusDetr(tiny_model, device="cpu")
    before = model.predict(images, threshold=0.0)
    travelling = pickle.dumps(model)
    assert len(travelling) < 2000  # no weights, no session, no lock
    monkeypatch.chdir(tmp_path)
    arrived = pickle.loads(travelling)
    for one, other in zip(before, arrived.predict(images, threshold=0.0), strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    assert pickle.loads(pickle.dumps(FocusDetr("focus-detr-lite0"))).preset == "focus-detr-lite0"


def test_a_model_named_from_here_arrives_elsewhere(tiny_model, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_model.parent)
    travelling = pickle.dumps(FocusDetr(tiny_model.name, device="cpu"))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(travelling).class_names == ("cell", "dot")


def test_an_exported_model_travels_as_its_file(tmp_path, monkeypatch):
    from focus_detr.export import detector, onnx

    class Session:
        def __init__(self, path, device):
            self.path, self.device, self.lock = path, device, threading.Lock()
            self.metadata = SimpleNamespace(processor=lambda: None)

    monkeypatch.setattr(onnx, "Session", Session)
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    arrived = pickle.loads(pickle.dumps(detector.load_exported("m.onnx", "cuda")))
    assert arrived.session.path == tmp_path / "m.onnx" and arrived.session.device == "cuda"


def test_saving_writes_what_trains_or_says_why_not(tiny_model, images, tmp_path):
    deployed = FocusDetr(tiny_model, device="cpu", deploy=True)
    deployed.predict(images)
    assert FocusDetr(deployed.save(tmp_path / "copy")).class_names == ("cell", "dot")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(FocusDetrError, match="m.onnx: an exported model is one file already"):
        FocusDetr(tmp_path / "m.onnx").save(tmp_path / "never")
    assert not (tmp_path / "never").exists()

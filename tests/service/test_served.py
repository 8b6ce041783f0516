"""Models of all kinds behind the service: deployed ones, and exported files like others."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.export import export
from focus_detr.images.settings import Setting
from focus_detr.inference import Predictor
from focus_detr.service import ServiceSettings
from focus_detr.service.served import ServedModel, load_served
from helpers.services import file_of, send, service

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8))


def test_models_are_loaded_deployed_and_say_what_they_can(tiny_model):
    settings = ServiceSettings(models=(f"fast={tiny_model}", f"plain={tiny_model}"), device="cpu")
    served = load_served(settings)
    assert list(served) == ["fast", "plain"]
    described = served["fast"].describe(True)
    assert described["classes"] == ["cell", "dot"] and described["heatmap"]
    size = (tiny_model / "model.safetensors").stat().st_size
    assert described["size_megabytes"] == round(size / 1e6, 1) and described["parameters"] > 1000
    assert type(served["fast"].predictor.model).__name__ == "DeployedFocusDetr"
    left = load_served(ServiceSettings(models=(str(tiny_model),), device="cpu", deploy=False))
    assert type(next(iter(left.values())).predictor.model).__name__ == "FocusDetrForObjectDetection"


def test_models_are_served_at_a_setting_that_they_have(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    values = json.loads((folder / "config.json").read_text())
    values["settings"] = {"fast": {"size": {"height": 32, "width": 48}, "budget": 0.2}}
    (folder / "config.json").write_text(json.dumps(values))
    served = load_served(ServiceSettings(models=(f"m={folder}",), device="cpu", setting="fast"))["m"]
    assert served.predictor.prepare([NOISE])[0].shape[2:] == (32, 48)
    assert served.configured_budget == served.describe(True)["budget"]["default"] == 0.2
    with pytest.raises(FocusDetrError, match="slow"):
        load_served(ServiceSettings(models=(str(folder),), device="cpu", setting="slow"))


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FocusDetrError, match="config.json"):
        load_served(ServiceSettings(models=(str(tmp_path),)))


@pytest.mark.slow
def test_an_exported_file_is_served_like_any_other(tiny_model, tmp_path):
    file = export(str(tiny_model), tmp_path / "tiny.onnx", image_size=(64, 96), batch_size=1)
    served = load_served(ServiceSettings(models=(str(file),), device="cpu"))
    predictor = served["tiny.onnx"].predictor
    (expected,) = Predictor.from_pretrained(file).predict(NOISE, threshold=0.0)
    with service({"tiny": predictor}) as client:
        (model,) = client.get("/v1/models").json()["models"]
        found = send(client, file_of(NOISE), "/v1/detect?threshold=0&where=true").json()
        refused = send(client, file_of(NOISE), "/v1/detect?budget=0.5")
    assert not model["budget"]["accepted"] and not model["heatmap"] and model["parameters"] is None
    assert found["kept"] is None and len(found["detections"]) == len(expected) > 0
    np.testing.assert_allclose([each["box"] for each in found["detections"]], expected.boxes_xyxy, atol=0.01)
    assert "where" not in found["detections"][0]
    assert refused.status_code == 422 and refused.json()["error"]["code"] == "no_budget"


@pytest.mark.parametrize("takes", [True, False])
def test_an_exported_file_says_itself_whether_it_takes_budgets(takes):
    def accept_budget(budget):
        raise FocusDetrError("a graph cannot choose by the picture")

    predictor = SimpleNamespace(
        accept_budget=accept_budget,
        setting=Setting(),
        model=SimpleNamespace(takes_budget=takes),
        run=lambda pictures, **options: SimpleNamespace(plan=None),
        class_names=("cat",),
        threshold=0.5,
        class_thresholds={},
    )
    budget = ServedModel.of("cats", predictor).describe(True)["budget"]
    assert budget["accepted"] == takes and not budget["auto"]

"""Settings: resolution, budget and decoder layers of a model by name, and that closest to a deadline."""

import json

import pytest
import torch

from focus_detr import FocusDetr, FocusDetrConfig
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.images.settings import Setting, scaled_size
from focus_detr.inference import Predictor
from focus_detr.inference import closest as module
from focus_detr.inference.closest import at_setting
from focus_detr.inference.costs import CostCurve
from helpers.fake_detector import FakeModel, picture, plain_processor
from helpers.small_models import small_config, small_model

SETTINGS = {
    "best": {"budget": 1.0, "ap": 0.6},
    "fast": {
        "size": {"shortest_edge": 64, "longest_edge": 96},
        "budget": 0.2,
        "decoder_layers": 1,
        "ap": 0.5,
    },
}


@pytest.fixture
def folder(tmp_path):
    model = small_model(dtype=torch.float32, settings=SETTINGS)
    model.save_pretrained(tmp_path / "small")
    FocusDetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 128}).save_pretrained(
        tmp_path / "small"
    )
    return tmp_path / "small"


def boxes(detections):
    return [each.boxes_xyxy.tolist() for each in detections]


def test_a_setting_is_what_it_says_and_what_is_said_beside_it_goes_before(folder):
    model = FocusDetr(folder, device="cpu")
    pixels = [picture(red=(4, 4, 20, 12)), picture(green=(30, 20, 60, 44))]
    fast = model.predict(pixels, setting="fast", threshold=0)
    small = FocusDetrImageProcessor.from_pretrained(folder, size=SETTINGS["fast"]["size"])
    by_hand = Predictor(model.predictor.model, small).predict(
        pixels, budget=0.2, decoder_layers=1, threshold=0
    )
    assert boxes(fast) == boxes(by_hand)
    wider = model.predict(pixels, setting="fast", budget=1.0, decoder_layers=2, threshold=0)
    both = Predictor(model.predictor.model, small).predict(pixels, budget=1.0, threshold=0)
    assert boxes(wider) == boxes(both) != boxes(fast)
    # The model itself, which others may be using, is as it was.
    plain = FocusDetr(folder, device="cpu").predict(pixels, threshold=0)
    assert boxes(model.predict(pixels, threshold=0)) == boxes(plain) != boxes(fast)


@pytest.mark.parametrize(("deadline", "chosen"), [("80ms", "best"), ("30ms", "fast"), ("1ms", "fast")])
def test_the_closest_is_the_most_accurate_that_meets_the_deadline_or_the_fastest(
    folder, monkeypatch, deadline, chosen, caplog
):
    class Costs:
        @classmethod
        def of_model(cls, predictor, layers):
            assert layers == predictor.setting.decoder_layers
            return cls()

        def of(self, size):
            area = size[0] * size[1]
            return CostCurve((0.05, 1.0), (1e-6 * area, 4e-6 * area))

    monkeypatch.setattr(module, "Costs", Costs)
    with caplog.at_level("INFO"):
        found = at_setting(FocusDetr(folder, device="cpu").predictor, "auto", deadline)
    assert f"setting {chosen}: about" in caplog.text
    assert found.setting.to_dict() == SETTINGS[chosen]


def test_what_is_no_setting_is_refused_with_those_that_are(folder):
    model = FocusDetr(folder, device="cpu")
    with pytest.raises(FocusDetrError, match="setting='fest'.*known: best, fast"):
        model.predict(picture(), setting="fest")
    with pytest.raises(FocusDetrError, match="setting='auto': is the best one within a deadline"):
        model.predict(picture(), setting="auto")
    none = Predictor(FakeModel(), plain_processor())
    for name, deadline in (("fast", None), ("auto", "50ms")):
        with pytest.raises(FocusDetrError, match="this model has none; .*--frontier"):
            at_setting(none, name, deadline)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fast": {"budgets": 0.2}}, "settings.'fast'.: unknown key 'budgets' .did you mean 'budget'"),
        ({"fast": {"budget": 7}}, "settings.'fast'.: budget=7"),
        ({"fast": {"size": {"height": 5}}}, "settings.'fast'.: size="),
        ({"fast": {"decoder_layers": 0}}, "decoder_layers=0"),
        ({"fast": {"ap": 50}}, "ap=50"),
        ({"fast": 0.2}, "must be a mapping"),
        ({"auto": {}}, "'auto' cannot be the name"),
    ],
)
def test_a_configuration_with_unusable_settings_is_refused(settings, message):
    with pytest.raises(FocusDetrError, match=message):
        small_config(settings=settings)


def test_a_setting_of_more_layers_than_there_are_is_refused_when_it_is_taken(folder):
    predictor = FocusDetr(folder, device="cpu").predictor
    with pytest.raises(FocusDetrError, match="decoder_layers=3: .*from 1 to 2"):
        predictor.at(Setting(decoder_layers=3))


def test_settings_are_kept_with_the_model(folder):
    config = FocusDetrConfig.from_pretrained(folder)
    assert config.settings == SETTINGS == json.loads((folder / "config.json").read_text())["settings"]


def test_sizes_are_scaled_by_their_edges():
    assert scaled_size({"shortest_edge": 320, "longest_edge": 448, "multiple": 32}, 0.5) == {
        "shortest_edge": 160, "longest_edge": 224, "multiple": 32,
    }  # fmt: skip
    assert scaled_size({"height": 416, "width": 416}, 0.7) == {"height": 288, "width": 288}
    assert scaled_size({"height": 100, "width": 60}, 1.0) == {"height": 100, "width": 60}

"""Pictures and the stand-in for a model that `predict` is tried with."""

import pytest
from PIL import Image

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from helpers.predicting import TwoCellsAndADot


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    Image.new("RGB", (64, 32), "white").save(tmp_path / "images" / "one.png")
    Image.new("RGB", (32, 64), "black").save(tmp_path / "images" / "deep" / "one.jpg")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"not an image")
    return tmp_path


@pytest.fixture
def stand_in(monkeypatch):
    processor = FocusDetrImageProcessor(size=32)
    predictor = Predictor(TwoCellsAndADot(), processor, ["cell", "dot"])
    predictor.max_detections = 3
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *arguments, **options: predictor)
    monkeypatch.setattr("focus_detr.cli.predict.resolve_model", lambda name: name)

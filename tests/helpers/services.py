"""Applications of the service over small models, called in this process."""

from __future__ import annotations

import io
from contextlib import contextmanager

from fastapi.testclient import TestClient
from PIL import Image

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.service import ServiceSettings, create_app
from helpers.fake_detector import FakeModel, picture, plain_processor
from helpers.small_models import small_model


def fake_predictor(model=None, **config) -> Predictor:
    """Finds the red and the green rectangle (see `fake_detector`)."""
    return Predictor(model or FakeModel(**config), plain_processor())


def small_predictor(**changes) -> Predictor:
    """A Focus-DETR of random weights, which finds something everywhere."""
    import torch

    model = small_model(dtype=torch.float32, **changes)
    return Predictor(model, FocusDetrImageProcessor(size=96), threshold=0.0)


def file_of(image: Image.Image | None = None, format: str = "PNG", **options) -> bytes:
    """The content of an image file; by default one with both rectangles."""
    stream = io.BytesIO()
    both = {"red": (4, 4, 20, 12), "green": (30, 20, 60, 44)}
    (picture(**both) if image is None else image).save(stream, format, **options)
    return stream.getvalue()


@contextmanager
def service(predictors=None, **settings):
    """A client of an application in this process."""
    predictors = {"fake": fake_predictor()} if predictors is None else predictors
    app = create_app(ServiceSettings(**settings), predictors)
    with TestClient(app) as client:
        client.state = app.state.service
        yield client


def send(client, content: bytes | None = None, address: str = "/v1/detect", **options):
    """A picture in a form."""
    return client.post(address, files={"image": ("a.png", content or file_of())}, **options)

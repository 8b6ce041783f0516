"""Applications of the service over small models, called in this process."""

from __future__ import annotations

import io
import socket
import threading
import time
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
    return client.post(
        address, files={"image": ("a.png", file_of() if content is None else content)}, **options
    )


class BlockingModel(FakeModel):
    """Answers once it is let go; says when it has begun."""

    def __init__(self, **config) -> None:
        super().__init__(**config)
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def forward(self, *arguments, **options):
        self.begun.set()
        assert self.go.wait(30)
        return super().forward(*arguments, **options)

    def hold(self) -> None:
        """From now on, until `go` is set."""
        self.go.clear()
        self.begun.clear()


class LiveService:
    """An application behind a real socket on this machine."""

    def __init__(self, app, **settings) -> None:
        import uvicorn

        from focus_detr.service.server import configure

        self.app = app
        self.server = uvicorn.Server(configure(app, ServiceSettings(**settings), "127.0.0.1", 0))
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def idle(self) -> bool:
        """Whether all that requests took is given back, soon after their answers."""
        state, deadline = self.app.state.service, time.monotonic() + 5
        while (state.in_flight or state.room.used) and time.monotonic() < deadline:
            time.sleep(0.01)
        return not state.in_flight and not state.room.used

    def stop(self) -> None:
        """As SIGTERM does; returns when the last accepted request has been answered."""
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextmanager
def live_service(predictors=None, **settings):
    predictors = {"fake": fake_predictor()} if predictors is None else predictors
    live = LiveService(create_app(ServiceSettings(**settings), predictors), **settings)
    try:
        yield live
    finally:
        live.stop()

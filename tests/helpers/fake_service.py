"""The service's answers without its models, for tests of its page: quick, and wrong on demand."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image, UnidentifiedImageError

from focus_detr.structures.masks import Mask

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src" / "focus_detr" / "service" / "page"
EXAMPLES = ROOT / "examples" / "blood-cells"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CLASSES = ["Platelets", "RBC", "WBC"]
# Fractions of the picture, with the score that each has.
OBJECTS = [
    (2, 0.97, (0.30, 0.30, 0.55, 0.62)),
    (1, 0.91, (0.05, 0.10, 0.22, 0.34)),
    (1, 0.84, (0.60, 0.05, 0.80, 0.30)),
    (1, 0.66, (0.62, 0.60, 0.85, 0.90)),
    (0, 0.55, (0.08, 0.70, 0.16, 0.82)),
    (0, 0.21, (0.44, 0.80, 0.50, 0.88)),
]


@dataclass
class FakeService:
    """What it will do, and what it was asked.

    Attributes:
        refusals: (status, code, message, headers) that the next questions are answered with, first to last.
        delays: seconds that the next answers take.
        asked: the query of every question about a picture.
        sizes: (width, height) of every picture that came.
        key: what has to be sent along, if anything.
    """

    address: str = ""
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [model("cells", default=True), model("dots")]
    )
    refusals: list[tuple[int, str, str, dict[str, str]]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    key: str | None = None

    def refuse(self, status: int, code: str, message: str, times: int = 1, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.refusals += [(status, code, message, named)] * times


def model(name: str, **values: Any) -> dict[str, Any]:
    """What `GET /v1/models` says of one."""
    return {
        "name": name,
        "default": False,
        "classes": CLASSES,
        "threshold": 0.5,
        "budget": {"accepted": True, "default": None, "smallest": 0.05},
        "heatmap": True,
        "size_megabytes": 21.3,
        "parameters": 5_300_000,
        **values,
    }


@contextmanager
def fake_service(page: Path = PAGE) -> Iterator[FakeService]:
    """A fake service while in use, on a port of its own."""
    service = FakeService()

    class Handler(_Handler):
        state, folder = service, page

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.address = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def answer(size: tuple[int, int], query: dict[str, str]) -> dict[str, Any]:
    """What `POST /v1/detect` finds: the less, the smaller the budget."""
    width, height = size
    budget = None
    if "budget" in query:  # chosen by the picture: 15 %
        budget = 0.15 if query["budget"] == "auto" else float(query["budget"])
    kept = 0.3 if budget is None else budget
    found = []
    for label, score, (left, top, right, bottom) in OBJECTS[: len(OBJECTS) if kept >= 0.2 else 3]:
        if score < float(query.get("threshold", 0.5)):
            continue
        box = [left * width, top * height, right * width, bottom * height]
        one: dict[str, Any] = {"class": CLASSES[label], "label": label, "score": score, "box": box}
        if query.get("model") == "masked":
            corner, opposite = ((round(box[i]), round(box[i + 1])) for i in (0, 2))
            half = np.ones(((opposite[1] - corner[1]) // 2, opposite[0] - corner[0]), dtype=bool)
            one["mask"] = Mask.of_bitmap(half, (height, width), corner).to_coco((height, width))
        if query.get("where") == "true":
            x, y = (left + right) / 2 * width, (top + bottom) / 2 * height
            one["where"] = [[x, y, 0.6], [left * width, y, 0.3], [x, top * height, 0.1]]
        found.append(one)
    content = {
        "model": query.get("model", "cells"),
        "image": {"width": width, "height": height},
        "budget": budget,
        "kept": kept,
        "milliseconds": {"decode": 2.0, "wait": 0.1, "model": 100 * kept, "total": 100 * kept + 3},
        "detections": found,
        "request_id": "fake",
    }
    if query.get("heatmap") == "true":
        stream = io.BytesIO()
        Image.linear_gradient("L").resize((32, 24)).save(stream, "PNG")
        content["heatmap"] = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return content


class _Handler(SimpleHTTPRequestHandler):
    state: FakeService
    folder: Path

    protocol_version = "HTTP/1.1"  # a connection for many modules, not one for each

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/v1/models":
            if not self._refused():
                self._send(200, {"models": self.state.models})
        elif path == "/examples":
            listed = [
                {"name": file.name, "url": f"/examples/{file.name}", "credit": "BCCD, MIT licence"}
                for file in sorted(EXAMPLES.glob("*.jpg"))
            ]
            self._send(200, {"examples": listed})
        elif path.startswith("/examples/"):
            self._file(EXAMPLES / Path(path).name)
        else:
            self._file(self.folder / (path.lstrip("/") or "index.html"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.state.asked.append(query)
        time.sleep(self.state.delays.pop(0) if self.state.delays else 0)
        if self._refused():
            return
        form = message_from_bytes(
            b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body
        )
        try:
            (part,) = form.get_payload()  # type: ignore[misc]
            size = Image.open(io.BytesIO(part.get_payload(decode=True))).size  # type: ignore[union-attr]
        except UnidentifiedImageError:
            self._error(422, "unreadable_picture", "not an image of a known format")
            return
        self.state.sizes.append(size)
        self._send(200, answer(size, query))

    def _refused(self) -> bool:
        if self.state.key is not None and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            self._error(401, "unauthorized", "A key is needed.")
            return True
        if not self.state.refusals:
            return False
        status, code, message, headers = self.state.refusals.pop(0)
        self._error(status, code, message, headers)
        return True

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        content = {"error": {"code": code, "message": message, "request_id": "fake"}}
        self._send(status, content, headers or {})

    def _send(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self._head(status, "application/json", len(data), headers or {})
        self.wfile.write(data)

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        self._head(200, self.guess_type(str(file)), len(data), {"Content-Security-Policy": POLICY})
        self.wfile.write(data)

    def _head(self, status: int, kind: str, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

"""The server: one process that answers until it is told to end."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from focus_detr.service.protocol import protocol_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from focus_detr.service.settings import ServiceSettings


class _Server(uvicorn.Server):
    """Says to the application that the end has begun: what comes on open connections is then refused."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.service.draining = True
        super().handle_exit(sig, frame)


def make_server(app: FastAPI, settings: ServiceSettings, host: str, port: int) -> uvicorn.Server:
    """A server of ``app``, to be run by its `run`."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol_of(settings.max_connections),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the gate writes one
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=int(settings.grace),
        h11_max_incomplete_event_size=32 * 1024,
    )
    return _Server(config, app)

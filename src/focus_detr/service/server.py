"""The server: this process, or several under its eyes, that answer until told to end."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from focus_detr.errors import FocusDetrError
from focus_detr.service import create_app
from focus_detr.service.logs import start_log
from focus_detr.service.memory import free_memory
from focus_detr.service.protocol import PatientProtocol
from focus_detr.service.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

_MEGABYTE = 2**20
_SILENT = 30
"""Seconds after which a worker that says nothing is taken for hung; loading a model takes some."""


@dataclass(frozen=True)
class WorkerApp:
    """Makes the application in a process of its own.

    Attributes:
        threads: of a model on a CPU; None for torch's own choice.
        figures: folder in which several workers keep their figures, to be added up.
    """

    settings: ServiceSettings
    log_format: str = "json"
    threads: int | None = None
    figures: str | None = None

    def __call__(self) -> FastAPI:
        start_log(self.log_format)
        if self.figures is not None:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = self.figures  # read when prometheus_client is imported
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        return create_app(self.settings)

    def in_worker(self) -> FastAPI:
        """As a call, but what cannot be used ends the parent, too, which would start it again for ever."""
        try:
            return self()
        except FocusDetrError as error:
            logger.error("%s", error)
            sys.exit(STARTUP_FAILURE)


def configure(
    app: Callable[..., Any], settings: ServiceSettings, host: str, port: int, **more: Any
) -> uvicorn.Config:
    """uvicorn's configuration for ``app``."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the gate writes one
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        h11_max_incomplete_event_size=32 * 1024,
        **more,
    )


def serve(app: WorkerApp, host: str, port: int, workers: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted is finished first.

    Args:
        workers: processes that answer, each with its own models; one that dies is started anew. None: this
            process answers.

    Raises:
        FocusDetrError: a model cannot be loaded, or the address is taken.
    """
    _check_free(host, port)
    if workers is None:
        uvicorn.Server(configure(app(), app.settings, host, port)).run()
        return
    start_log(app.log_format)
    if app.settings.memory_megabytes is None:
        share = free_memory() / 2 / workers / _MEGABYTE
        app = replace(app, settings=replace(app.settings, memory_megabytes=share))
    with tempfile.TemporaryDirectory(prefix="focus-detr-figures-") as folder:
        app = replace(app, figures=folder)
        config = configure(
            app.in_worker,
            app.settings,
            host,
            port,
            factory=True,
            workers=workers,
            timeout_worker_healthcheck=_SILENT,
        )
        Multiprocess(config, sockets=[config.bind_socket()]).run()


def _check_free(host: str, port: int) -> None:
    """Before models are loaded: uvicorn says it after, and ends as if told to."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = error.strerror or error
            raise FocusDetrError(
                f"{host}, port {port}: cannot be listened at ({why}); --port gives another, 0 a free one"
            ) from error

"""The application: routes, and what becomes of errors inside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from focus_detr._version import __version__
from focus_detr.service.errors import ServiceError, of_status
from focus_detr.service.gate import Gate
from focus_detr.service.jobs import Journal, Runner
from focus_detr.service.page_routes import add_page
from focus_detr.service.routes import detecting, jobs, operating
from focus_detr.service.settings import ServiceSettings
from focus_detr.service.state import ServiceState

_DESCRIPTION = """Object detection by transformers that look closely only where objects are.

Send a picture to `/v1/detect`; `/v1/models` says what is served and what may be asked. Every error is JSON:
`{"error": {"code", "message", "request_id"}}`; 429 and 503 say by `Retry-After` when to come back."""


def build_app(settings: ServiceSettings, predictors: dict[str, Any] | None = None) -> FastAPI:
    """See `focus_detr.service.create_app`."""
    state = ServiceState(settings, predictors)

    runner = None if settings.jobs is None else Runner(state, _journal(settings, settings.jobs))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # What connections are told, too (see `PatientProtocol`).
        yield {"settings": settings}
        if runner is not None:
            runner.close()
        state.close()

    app = FastAPI(
        title="focus-detr",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # Both would load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = state
    # The gate asks for keys; here they are said to be asked for.
    keys = [Security(HTTPBearer(auto_error=False))] if settings.api_keys else []
    app.include_router(detecting.router(state), dependencies=keys)
    app.include_router(operating.router(state))
    if runner is not None:
        app.include_router(jobs.router(state, runner), dependencies=keys)
    add_page(app, settings)
    app.add_exception_handler(ServiceError, _told)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Gate, state=state)
    if settings.allow_origins:
        # Outside the gate, whose errors a page elsewhere must be able to read.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allow_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    return app


def _journal(settings: ServiceSettings, folder: Path) -> Journal:
    return Journal(folder, settings.max_jobs, settings.job_hours)


def _told(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    passage = request.scope["state"]["passage"]
    passage.code = error.code
    return JSONResponse(error.content(passage.request_id), error.status, error.headers())


def _of_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = {404: "nothing is at this address", 405: "this address does not take that method"}
    answer = _told(request, of_status(error.status_code, said.get(error.status_code, "")))
    answer.headers.update(error.headers or {})
    return answer


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = []
    for each in error.errors()[:5]:
        place = str(each["loc"][1])[:60] if len(each["loc"]) > 1 else ""  # deeper down are our own types
        what = "not known" if each["type"] == "extra_forbidden" else each["msg"]
        told.append(f"{place}: {what}" if place else what)
    return _told(request, of_status(422, "; ".join(told)))

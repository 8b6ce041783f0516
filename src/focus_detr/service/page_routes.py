"""The page, and pictures to try it with: files of the package, served as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from focus_detr.service.settings import ServiceSettings

PAGE = Path(__file__).parent / "page"
EXAMPLES = Path(__file__).parent / "examples"

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


def add_page(app: FastAPI, settings: ServiceSettings) -> None:
    """`/examples` and, where the settings want one, the page at `/`."""

    @app.get("/examples", tags=["page"])
    async def examples() -> JSONResponse:
        """Pictures that come with the service, to try it with."""
        return JSONResponse({"examples": list_examples()})

    app.mount("/examples/pictures", _Files(directory=EXAMPLES), name="pictures")
    if settings.page and (PAGE / "index.html").is_file():
        app.routes.append(_Rest(app.routes[:], _Files(directory=PAGE, html=True)))


def list_examples() -> list[dict[str, str]]:
    """Name, address and origin of each, as `credits.json` beside them has it."""
    known = json.loads((EXAMPLES / "credits.json").read_text(encoding="utf-8"))
    return [{"url": f"/examples/pictures/{file}", **said} for file, said in known.items()]


class _Rest(Mount):
    """What no other route has an address for: one that takes another method is left to say so."""

    def __init__(self, others: Sequence[BaseRoute], app: ASGIApp) -> None:
        super().__init__("/", app=app, name="page")
        self.others = others

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if any(route.matches(scope)[0] is Match.PARTIAL for route in self.others):
            return Match.NONE, {}
        return super().matches(scope)


class _Files(StaticFiles):
    """Files that a browser asks for again each time, and is told of in a few bytes that they are the same."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = "no-cache"
        response.headers["content-security-policy"] = _POLICY
        response.headers["permissions-policy"] = "camera=(self), microphone=(), geolocation=()"
        response.headers["x-frame-options"] = "DENY"
        return response

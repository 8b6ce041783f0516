"""For those who run the service: health, readiness, figures."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from focus_detr.service.detecting import in_reader
from focus_detr.service.errors import ServiceError
from focus_detr.service.metrics import CONTENT_TYPE
from focus_detr.service.schema import problems
from focus_detr.service.state import ServiceState

_FRESH = {"cache-control": "no-store"}


def router(state: ServiceState) -> APIRouter:
    """Routes that say how ``state`` is."""
    routes = APIRouter(tags=["operation"])

    @routes.head("/healthz", include_in_schema=False)  # balancers ask by either
    @routes.get("/healthz")
    async def healthz() -> JSONResponse:
        """Whether the process lives: 200, or it should be started anew."""
        if not state.engine.alive and not state.draining:
            raise ServiceError(503, "unavailable", "the engine has stopped")
        return JSONResponse({"status": "ok"}, headers=_FRESH)

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", responses=problems(503))
    async def readyz() -> JSONResponse:
        """Whether requests should be sent here: 200, or 503 while it ends."""
        if not state.ready:
            raise ServiceError(503, "unavailable", "not ready", retry_after=5)
        return JSONResponse({"status": "ready", "models": list(state.models)}, headers=_FRESH)

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Figures in the text format of Prometheus, of all workers together."""
        text = await in_reader(state, state.metrics.text)
        return Response(text, media_type=CONTENT_TYPE, headers=_FRESH)

    return routes

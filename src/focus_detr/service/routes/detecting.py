"""`/v1/`: models and detection."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from focus_detr.service import schema
from focus_detr.service.detecting import detect, in_reader
from focus_detr.service.errors import ServiceError
from focus_detr.service.fetching import fetch_picture
from focus_detr.service.forms import Upload, one_picture, several_pictures
from focus_detr.service.schema import Asked, Parameters, answers, body_of_pictures, problems
from focus_detr.service.state import ServiceState

_PROBLEMS = problems(400, 401, 408, 413, 415, 422, 429, 503, 504)


def router(state: ServiceState) -> APIRouter:
    """Routes over the models of ``state``."""
    routes = APIRouter(prefix="/v1", tags=["detection"])

    @routes.get("/models", responses={**answers(schema.Models), **problems(401)})
    async def models() -> JSONResponse:
        """The models that are served, and what may be asked of each."""
        served = [each.describe(name == state.default) for name, each in state.models.items()]
        return JSONResponse({"models": served})

    @routes.post(
        "/detect",
        responses={**answers(schema.Answer, schema.EXAMPLE_ANSWER), **_PROBLEMS},
        openapi_extra=body_of_pictures(several=False),
    )
    async def detect_picture(request: Request, asked: Asked) -> JSONResponse:
        """Find objects in one picture: the field `image` of a form, or the body itself."""
        asked.wanted(state.model(asked.model))  # said before the picture is read
        upload = await one_picture(request)
        return JSONResponse(await detect(request, state, upload.content, asked))

    @routes.post(
        "/detect-batch",
        responses={**answers(schema.BatchAnswer), **_PROBLEMS},
        openapi_extra=body_of_pictures(several=True),
    )
    async def detect_pictures(request: Request, asked: Asked) -> JSONResponse:
        """Find objects in several pictures, each a field `image` of one form, answered in order."""
        asked.wanted(state.model(asked.model))
        uploads = await several_pictures(request, state.settings.max_files)
        results = await asyncio.gather(*(_one(request, each, asked) for each in uploads))
        return JSONResponse({"results": results, "request_id": _id(request)})

    @routes.post(
        "/detect-url",
        responses={**answers(schema.Answer, schema.EXAMPLE_ANSWER), **problems(403, 404), **_PROBLEMS},
        include_in_schema=bool(state.settings.allow_urls),
    )
    async def detect_address(request: Request, address: schema.Address, asked: Asked) -> JSONResponse:
        """Find objects in the picture behind an address, of a host that the service allows."""
        if not state.settings.allow_urls:
            raise ServiceError(404, "not_found", "this service fetches no pictures; send the picture itself")
        asked.wanted(state.model(asked.model))
        settings, passage = state.settings, request.scope["state"]["passage"]
        passage.keep(settings.max_bytes)
        content = await in_reader(
            state,
            fetch_picture,
            address.url,
            settings.allow_urls,
            settings.url_timeout,
            settings.max_megabytes,
            passage.request_id,
        )
        return JSONResponse(await detect(request, state, content, asked))

    async def _one(request: Request, upload: Upload, asked: Parameters) -> dict[str, Any]:
        try:
            answer = await detect(request, state, upload.content, asked)
        except ServiceError as error:
            return {"name": upload.name, **error.content(_id(request))}
        answer.pop("request_id")
        return {"name": upload.name, **answer}

    return routes


def _id(request: Request) -> str:
    return str(request.scope["state"]["passage"].request_id)

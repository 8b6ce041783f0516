"""`/v1/`: models and detection."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from focus_detr.service import schema
from focus_detr.service.detecting import detect
from focus_detr.service.errors import ServiceError
from focus_detr.service.forms import Upload, one_picture, several_pictures
from focus_detr.service.schema import Parameters, answers, body_of_pictures, problems
from focus_detr.service.state import ServiceState

Asked = Annotated[Parameters, Query()]
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

"""`/v1/jobs`: pictures that are accepted now and answered later."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from focus_detr.service import schema
from focus_detr.service.detecting import in_reader
from focus_detr.service.errors import ServiceError
from focus_detr.service.forms import several_pictures
from focus_detr.service.jobs import Job, Runner
from focus_detr.service.schema import Asked, answers, body_of_pictures, problems
from focus_detr.service.state import ServiceState

Number = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["5f2c0f6e0b1d4c57a6f1b7a3c7f2d9aa"])]


def router(state: ServiceState, runner: Runner) -> APIRouter:
    """Routes over the jobs of ``runner``."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    journal = runner.journal

    def found(number: str) -> Job:
        job = journal.find(number)
        if job is None:
            raise ServiceError(404, "not_found", "no job of that id; finished ones are kept for a while only")
        return job

    @routes.post(
        "",
        status_code=202,
        responses={
            202: {"model": schema.JobOf},
            **problems(400, 401, 408, 413, 415, 422, 429, 503, 504),
        },
        openapi_extra=body_of_pictures(several=True),
    )
    async def submit(request: Request, asked: Asked) -> JSONResponse:
        """Accept pictures, each a field `image` of one form, to be answered later: they are on the disk then,
        and answered even if the service ends meanwhile."""
        model = state.model(asked.model)
        wanted = asked.wanted(model)
        uploads = await several_pictures(request, state.settings.max_job_files)
        if await in_reader(state, lambda: journal.full):
            raise ServiceError(429, "overloaded", "too many jobs; delete finished ones", retry_after=60)
        pictures = [(each.name, each.content) for each in uploads]
        parameters = {"model": model.name, "wanted": dataclasses.asdict(wanted)}
        try:
            job: Job = await in_reader(state, journal.accept, parameters, pictures)
        except OSError as error:
            raise ServiceError(503, "unavailable", "the job could not be stored", retry_after=60) from error
        runner.wake()
        described = await in_reader(state, job.describe)
        return JSONResponse(described, 202, {"location": f"/v1/jobs/{job.id}"})

    @routes.get("/{number}", responses={**answers(schema.JobOf), **problems(401, 404)})
    async def job(number: Number) -> JSONResponse:
        """How far a job is: queued, running or done."""
        return JSONResponse(await in_reader(state, lambda: found(number).describe()))

    @routes.get("/{number}/results", response_class=Response, responses=problems(401, 404))
    async def results(number: Number) -> Response:
        """What was found so far, one JSON object a line and picture, in the order they were finished."""
        lines = await in_reader(
            state, lambda: [json.dumps(each) for each in found(number).answers().values()]
        )
        return Response("".join(f"{line}\n" for line in lines), media_type="application/x-ndjson")

    @routes.delete("/{number}", status_code=204, responses=problems(401, 404))
    async def delete(number: Number) -> Response:
        """Forget a job and its pictures, finished or not."""
        await in_reader(state, lambda: journal.remove(found(number)))
        return Response(status_code=204)

    return routes

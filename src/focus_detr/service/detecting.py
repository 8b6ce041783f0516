"""From a picture's bytes to its answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request

from focus_detr.service.answers import Found
from focus_detr.service.engine import Ticket
from focus_detr.service.pictures import prepare_picture
from focus_detr.service.schema import Parameters
from focus_detr.service.state import ServiceState


async def detect(request: Request, state: ServiceState, content: bytes, asked: Parameters) -> dict[str, Any]:
    """The answer to one picture.

    Raises:
        ServiceError: it is no picture, the parameters do not fit the model, there is no room or no time.
    """
    passage = request.scope["state"]["passage"]
    started = time.monotonic()
    model = state.model(asked.model)
    wanted = asked.wanted(model)
    prepared = await in_reader(
        state, prepare_picture, content, model, state.settings.max_pixels, state.room, state.busy
    )
    passage.keep(prepared.pixel_values.nbytes)
    ticket = Ticket(
        model, prepared.pixel_values, prepared.pixel_mask, prepared.size, wanted, passage.deadline
    )
    # Cancelled with the request, when its time is over or its client has gone: the engine passes it over.
    found: Found = await asyncio.wrap_future(state.engine.submit(ticket))
    state.metrics.picture(model.name, prepared.seconds, found)
    described = await in_reader(state, found.to_dict) if wanted.heatmap or wanted.where else found.to_dict()
    total = time.monotonic() - started
    noted = request.scope["state"].setdefault("noted", {"model": model.name, "objects": 0})
    noted["objects"] += len(found.detections)
    noted["batch"] = found.batch
    budget = model.configured_budget if asked.budget is None else asked.budget
    times = {"decode": prepared.seconds, "wait": found.waited, "model": found.took, "total": total}
    return {
        "model": model.name,
        "image": described.pop("image"),
        "budget": budget if found.detections.budget is None else found.detections.budget,
        "kept": described.pop("kept"),
        "milliseconds": {name: round(1000 * value, 2) for name, value in times.items()},
        **described,
        "request_id": passage.request_id,
    }


async def in_reader(state: ServiceState, work: Any, *arguments: Any) -> Any:
    """What ``work`` gives, done in a thread while others are served."""
    return await asyncio.get_running_loop().run_in_executor(state.readers, work, *arguments)

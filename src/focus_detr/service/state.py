"""All that one process of the service holds: models, engine, limits in use, figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from focus_detr.inference import Predictor
from focus_detr.service.engine import Engine
from focus_detr.service.errors import ServiceError
from focus_detr.service.gate import retry_after
from focus_detr.service.memory import Room, free_memory
from focus_detr.service.metrics import Metrics
from focus_detr.service.served import ServedModel, load_served, served_of
from focus_detr.service.settings import ServiceSettings

_MOST_READERS = 8


class ServiceState:
    """Made once, before the first request; closed when the last has been answered.

    Attributes:
        in_flight: requests in work.
        draining: the service ends: what is accepted is finished, nothing more is taken.
        readers: threads that decode pictures.
    """

    def __init__(self, settings: ServiceSettings, predictors: Mapping[str, Predictor] | None = None) -> None:
        self.settings = settings
        self.models = load_served(settings) if predictors is None else served_of(predictors)
        self.default = next(iter(self.models))
        memory = settings.memory_megabytes
        self.room = Room(free_memory() // 2 if memory is None else int(memory * 2**20))
        self.engine = Engine(settings.max_batch or self._usual_batch(), settings.max_wait)
        self.readers = ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1), "reader")
        self.in_flight = 0
        self.draining = False
        self.metrics = Metrics(self)

    def model(self, name: str | None) -> ServedModel:
        """The model of this name; the default for None.

        Raises:
            ServiceError: none is called so.
        """
        found = self.models.get(self.default if name is None else name)
        if found is None:
            known = ", ".join(self.models)
            raise ServiceError(422, "unknown_model", f"no model of that name is served; known: {known}")
        return found

    @property
    def ready(self) -> bool:
        """Whether a request sent now would be computed."""
        return self.engine.alive and not self.draining

    def busy(self) -> ServiceError:
        """What those are told who come when there is no room."""
        wait = retry_after(max(self.engine.length, self.in_flight), self.engine.seconds_a_picture)
        return ServiceError(
            429, "overloaded", f"the service is at its limit; try again in {wait} s", retry_after=wait
        )

    def close(self) -> None:
        self.draining = True
        self.engine.close()
        self.readers.shutdown(wait=True, cancel_futures=True)

    def _usual_batch(self) -> int:
        on_cpu = all(each.predictor.device.type == "cpu" for each in self.models.values())
        return 1 if on_cpu else 8

"""The runner: one thread that works on jobs, some pictures at a time, beside the requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from focus_detr.service.answers import Found, Wanted
from focus_detr.service.engine import Ticket
from focus_detr.service.errors import ServiceError
from focus_detr.service.jobs.journal import Job, Journal
from focus_detr.service.pictures import prepare_picture

if TYPE_CHECKING:
    from focus_detr.service.served import ServedModel
    from focus_detr.service.state import ServiceState

logger = logging.getLogger(__name__)

MOST_TRIES = 3
"""A picture that was begun so often without an answer ended the process each time; it is given up."""
_LOOK_AGAIN = 2.0
_TIDY = 600.0
_PATIENCE = 300.0
_AT_ONCE = 4


class Runner:
    """Works on the oldest job that no other process works on, until closed."""

    def __init__(self, state: ServiceState, journal: Journal) -> None:
        self._state, self.journal = state, journal
        self._closing, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is a new job."""
        self._news.set()

    def close(self) -> None:
        """Finish the pictures in work; the rest is left to the next process."""
        self._closing.set()
        self._news.set()
        self._thread.join()

    def _work(self) -> None:
        tidy_at = 0.0
        while not self._closing.is_set():
            self._news.clear()
            try:
                if time.monotonic() > tidy_at:
                    self.journal.tidy()
                    tidy_at = time.monotonic() + _TIDY
                worked = any([self._try(job) for job in self.journal.unfinished()])
            except Exception as error:  # a disk that is full for a while must not end all jobs
                logger.error("jobs: tried again in %g s", _LOOK_AGAIN, exc_info=error)
                worked = False
            if not worked:
                # Jobs of processes that have died are found by looking.
                self._news.wait(_LOOK_AGAIN)

    def _try(self, job: Job) -> bool:
        """Work on a job, if it is nobody else's; whether it was."""
        if self._closing.is_set():
            return False
        try:
            with job.lock().acquire(timeout=0):
                return self._finish(job)
        except Timeout:
            return False
        except FileNotFoundError:
            logger.info("job %s: removed while in work", job.id)
            return False

    def _finish(self, job: Job) -> bool:
        asked, answers, begun = job.asked, job.answers(), job.begun()
        left = [index for index in range(len(asked["names"])) if index not in answers]
        hopeless = [index for index in left if begun[index] >= MOST_TRIES]
        if hopeless:
            gave_up = ServiceError(500, "internal", "given up: the service ended each time it was tried")
            job.append([_record(job, index, asked, gave_up) for index in hopeless])
        left = [index for index in left if index not in hopeless]
        # One that has ended a process is tried alone, so that it takes no other along.
        alone = [[index] for index in left if begun[index]]
        fresh = [index for index in left if not begun[index]]
        parts = [fresh[start : start + _AT_ONCE] for start in range(0, len(fresh), _AT_ONCE)]
        for part in [*parts, *alone]:
            if self._closing.is_set():
                return True
            job.append([{"begin": part}])
            found = self._answers(job, part, asked["parameters"])
            job.append([_record(job, index, asked, each) for index, each in zip(part, found, strict=True)])
        job.done.touch()
        return True

    def _answers(
        self, job: Job, part: Sequence[int], parameters: dict[str, Any]
    ) -> list[dict[str, Any] | ServiceError]:
        submitted: list[tuple[ServedModel, Future[Found]] | ServiceError] = []
        for index in part:
            try:
                submitted.append(self._submit(job.picture(index), parameters))
            except ServiceError as error:
                submitted.append(error)
        answers: list[dict[str, Any] | ServiceError] = []
        for each in submitted:
            if isinstance(each, ServiceError):
                answers.append(each)
                continue
            model, answer = each
            try:
                found = answer.result(_PATIENCE)
                answers.append({"model": model.name, **found.to_dict()})
            except ServiceError as error:
                answers.append(error)
        return answers

    def _submit(self, content: bytes, parameters: dict[str, Any]) -> tuple[ServedModel, Future[Found]]:
        state = self._state
        model = state.model(parameters["model"])
        wanted = Wanted(**{**parameters["wanted"], "classes": _tuple(parameters["wanted"]["classes"])})
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                prepared = prepare_picture(content, model, state.settings.max_pixels, state.room, state.busy)
                break
            except ServiceError as error:
                if error.status != 429 or time.monotonic() > deadline or self._closing.is_set():
                    raise
                time.sleep(0.1)  # requests go first; there is time
        ticket = Ticket(model, prepared.pixel_values, prepared.pixel_mask, prepared.size, wanted, deadline)
        return model, state.engine.submit(ticket)


def _record(
    job: Job, index: int, asked: dict[str, Any], answer: dict[str, Any] | ServiceError
) -> dict[str, Any]:
    said = answer.content(job.id) if isinstance(answer, ServiceError) else answer
    return {"index": index, "answer": {"index": index, "name": asked["names"][index], **said}}


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)

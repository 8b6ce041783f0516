"""The engine: one thread that runs the models, on batches of pictures that wait for the same."""

# Shapes: B images.

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from focus_detr.service.answers import Found, Wanted
from focus_detr.service.errors import ServiceError

if TYPE_CHECKING:
    from focus_detr.service.served import ServedModel

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Ticket:
    """A picture that waits for its model.

    Attributes:
        pixel_values, pixel_mask: (1,3,H,W) and (1,H,W), as the model's predictor prepares them.
        size: (height, width) of the picture, whose pixels boxes are given in.
        deadline: of `time.monotonic`, after which nobody waits for the answer.
    """

    model: ServedModel
    pixel_values: Tensor
    pixel_mask: Tensor
    size: tuple[int, int]
    wanted: Wanted
    deadline: float
    answer: Future[Found] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Hashable:
        """Tickets of one kind may share a batch: no picture of it is padded for another."""
        return self.model.name, self.wanted.budget, self.wanted.where, tuple(self.pixel_values.shape[1:])


class Engine:
    """Runs models, oldest ticket first, together with others of its kind.

    An answer does not depend on who shared the batch: all its pictures are of one size and asked for with one
    budget, so that none is padded or cut for another; a failure in company is tried again alone.

    Args:
        max_batch: tickets that go together.
        max_wait: seconds that a ticket waits for others at most, once the engine could take it.
    """

    def __init__(self, max_batch: int, max_wait: float) -> None:
        self.max_batch, self.max_wait = max_batch, max_wait
        self.seconds_a_picture = 0.1  # a moving mean; what it starts from is a guess
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def length(self) -> int:
        """Tickets that wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    def submit(self, ticket: Ticket) -> Future[Found]:
        """Its answer, or the error in its place; cancel it when nobody waits any more."""
        with self._changed:
            if self._closing:
                raise ServiceError(503, "unavailable", "the service is shutting down", retry_after=5)
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket.answer

    def close(self) -> None:
        """Answer all that wait, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[Ticket]:
        """The next batch; empty when the engine is to end and nobody waits."""
        with self._changed:
            while True:
                self._drop_dead()
                if not self._waiting:
                    if self._closing:
                        return []
                    self._changed.wait()
                    continue
                oldest = self._waiting[0]
                batch = [each for each in self._waiting if each.kind == oldest.kind][: self.max_batch]
                left = oldest.arrived + self.max_wait - time.monotonic()
                if len(batch) < self.max_batch and left > 0 and not self._closing:
                    self._changed.wait(left)
                    continue
                for each in batch:
                    self._waiting.remove(each)
                # From here on an answer cannot be cancelled; it is computed, and thrown away if nobody waits.
                if live := [each for each in batch if each.answer.set_running_or_notify_cancel()]:
                    return live

    def _drop_dead(self) -> None:
        """Leave out tickets that nobody waits for any more: a picture costs more than an answer is worth."""
        now = time.monotonic()
        for ticket in [each for each in self._waiting if each.answer.cancelled() or now > each.deadline]:
            self._waiting.remove(ticket)
            if ticket.answer.set_running_or_notify_cancel():
                ticket.answer.set_exception(ServiceError(504, "timeout", "not computed in time"))

    def _answer(self, batch: Sequence[Ticket]) -> None:
        started = time.monotonic()
        try:
            found = _run(batch)
        except Exception as error:
            if len(batch) > 1:
                logger.warning("a batch of %d failed, each is tried alone: %s", len(batch), error)
                for ticket in batch:
                    self._answer([ticket])
                return
            logger.error("%s: the model failed", batch[0].model.name, exc_info=error)
            batch[0].answer.set_exception(_explained(error))
            return
        took = time.monotonic() - started
        self.seconds_a_picture += 0.1 * (took / len(batch) - self.seconds_a_picture)
        for ticket, each in zip(batch, found, strict=True):
            waited = started - ticket.arrived
            ticket.answer.set_result(replace(each, batch=len(batch), waited=waited, took=took))


def _run(batch: Sequence[Ticket]) -> list[Found]:
    first = batch[0]
    predictor = first.model.predictor
    outputs: Any = predictor.run_prepared(
        torch.cat([each.pixel_values for each in batch]),
        torch.cat([each.pixel_mask for each in batch]),
        budget=first.wanted.budget,
        with_samples=first.wanted.where and first.model.tells_places,
    )
    lowest = [predictor.threshold_by_label(each.wanted.threshold) for each in batch]
    # Decoded once at the lowest score of all: what each is given beyond does not depend on the others.
    least = min(min(each.values()) if isinstance(each, Mapping) else each for each in lowest)
    found = predictor.decode(outputs, (), threshold=least, sizes=[each.size for each in batch])
    return [
        Found.of(outputs, index, detections.filter(threshold, ticket.wanted.classes), ticket.wanted)
        for index, (ticket, detections, threshold) in enumerate(zip(batch, found, lowest, strict=True))
    ]


def _explained(error: Exception) -> ServiceError:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in str(error):
        return ServiceError(503, "unavailable", "out of memory for a picture of this size", retry_after=10)
    return ServiceError(500, "internal", "the model failed; the service's log has it under this request id")

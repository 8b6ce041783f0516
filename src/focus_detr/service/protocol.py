"""Connections that wait a while and not for ever, for headers or for the rest of a body that nobody reads."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from focus_detr.service.errors import ServiceError

if TYPE_CHECKING:
    from focus_detr.service.settings import ServiceSettings


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with an end to its patience and errors in JSON.

    How many connections may be open and how long they wait is in the application's settings, which its
    lifespan hands on.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._settings: ServiceSettings = self.app_state["settings"]
        self._patience: asyncio.TimerHandle | None = None
        if len(self.connections) > self._settings.max_connections:
            self.connections.discard(self)
            transport.abort()
            return
        self._be_patient(self._settings.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_patience()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        state = self.conn.their_state
        if state is h11.IDLE and self.conn.trailing_data[0] and self._patience is None:
            self._be_patient(self._settings.header_timeout)  # the next request of this connection has begun
        elif state is not h11.IDLE and self.cycle is not None and not self.cycle.response_complete:
            self._end_patience()  # from here on the gate's limits hold

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # Answered before its body was read: what still comes is thrown away, for a while.
            self._be_patient(self._settings.linger)

    def send_400_response(self, msg: str) -> None:
        status, code = (431, "headers_too_large") if "too large" in msg.lower() else (400, "bad_request")
        request_id = uuid.uuid4().hex
        body = ServiceError(status, code, "this is no HTTP request").body(request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _be_patient(self, seconds: float) -> None:
        self._end_patience()
        self._patience = self.loop.call_later(seconds, self._give_up)

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

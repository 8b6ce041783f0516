"""The gate that every request passes: its name, key, limits of size, time and number, and line in the log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from focus_detr.service.errors import INTERNAL, ServiceError
from focus_detr.service.memory import Share

if TYPE_CHECKING:
    from focus_detr.service.state import ServiceState

logger = logging.getLogger("focus_detr.service.requests")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROTECTED = ("/v1/", "/metrics", "/openapi.json")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_UNKNOWN_LENGTH = 1 << 20
_COPIES = 3
"""Of a body at once: its pieces, the form's file made of them, and that file's content."""


class Gate:
    """ASGI middleware, the outermost: what happens inside is answered for, whatever it is."""

    def __init__(self, app: Any, state: ServiceState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # websockets: refused by the server when nothing is said
        await _Passage(self.app, self.state, scope, receive, send).run()


class _Passage:
    """One request on its way."""

    def __init__(self, app: Any, state: ServiceState, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._state, self._scope = app, state, scope
        self._receive_raw, self._send_raw = receive, send
        self._headers = {name.lower(): value for name, value in scope["headers"]}
        given = self._headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.started = time.monotonic()
        self._status: int | None = None
        self._received = 0
        self._share = Share(state.room)
        self._complete = asyncio.Event()
        self.code = ""

    async def run(self) -> None:
        settings, scope = self._state.settings, self._scope
        scope.setdefault("state", {})
        scope["state"]["passage"] = self
        heavy = scope["path"].startswith("/v1/") and scope["method"] == "POST"
        entered = False
        try:
            self._check_key()
            if heavy:
                self._check_length()
                self._enter()
                entered = True
            async with asyncio.timeout(settings.timeout):
                if heavy:
                    await self._watched()
                else:
                    await self._app(scope, self._receive, self._send)
        except TimeoutError:
            self._state.metrics.timeouts.inc()
            await self._refuse(
                ServiceError(504, "timeout", f"no answer within {settings.timeout:g} s; send less, or later")
            )
        except ServiceError as error:
            await self._refuse(error)
        except ClientDisconnect:
            self.code = "client_gone"
        except Exception as error:
            logger.error("unexpected error", exc_info=error, extra={"request_id": self.request_id})
            await self._refuse(INTERNAL)
        finally:
            if entered:
                self._state.in_flight -= 1
            self._share.close()
            self._log()

    @property
    def deadline(self) -> float:
        """Of `time.monotonic`."""
        return self.started + self._state.settings.timeout

    def keep(self, size: int) -> None:
        """Hold ``size`` more bytes until the request is answered.

        Raises:
            ServiceError: there is no room for them.
        """
        if not self._share.grow(self._share.size + size):
            raise self._state.busy()

    def _check_key(self) -> None:
        keys = self._state.settings.api_keys
        path = self._scope["path"]
        if not keys or not path.startswith(_PROTECTED) or self._scope["method"] == "OPTIONS":
            return
        said = self._headers.get(b"x-api-key") or self._headers.get(b"authorization", b"")
        scheme, _, token = said.partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" and token else said
        # Every key is looked at, each in the same time whatever is given.
        if not any([hmac.compare_digest(given, key.encode()) for key in keys]):
            raise ServiceError(
                401,
                "unauthorized",
                "needs the key of this service: Authorization: Bearer KEY, or X-API-Key: KEY",
            )

    def _check_length(self) -> None:
        settings = self._state.settings
        said = self._headers.get(b"content-length")
        size = _UNKNOWN_LENGTH if said is None or not said.isdigit() else int(said)
        if size > settings.max_bytes:
            raise _too_large(settings.max_megabytes)
        if not self._share.grow(_COPIES * size):
            raise self._state.busy()

    def _enter(self) -> None:
        if self._state.draining:
            raise ServiceError(503, "unavailable", "the service is shutting down", retry_after=5)
        if self._state.in_flight >= self._state.settings.max_queue:
            raise self._state.busy()
        self._state.in_flight += 1
        self._state.metrics.look()

    async def _watched(self) -> None:
        """Run the application, and stop it when its client has gone: nobody would read the answer."""
        work = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        watch = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                self.code = "client_gone"
            await work
        except asyncio.CancelledError:
            if self.code != "client_gone":
                raise
        finally:
            work.cancel()
            watch.cancel()

    async def _gone(self) -> None:
        await self._complete.wait()
        while (await self._receive_raw())["type"] != "http.disconnect":
            pass

    async def _receive(self) -> Message:
        left = self.started + self._state.settings.body_timeout - time.monotonic()
        if self._complete.is_set():
            return await self._receive_raw()
        try:
            message = await asyncio.wait_for(self._receive_raw(), max(0.001, left))
        except TimeoutError as error:
            raise ServiceError(
                408, "too_slow", f"the body did not arrive within {self._state.settings.body_timeout:g} s"
            ) from error
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._state.settings.max_bytes:
                raise _too_large(self._state.settings.max_megabytes)
            if not self._share.grow(_COPIES * self._received):
                raise self._state.busy()
            if not message.get("more_body", False):
                self._complete.set()
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                *_HEADERS,
                (b"x-request-id", self.request_id.encode()),
            ]
        await self._send_raw(message)

    async def _refuse(self, error: ServiceError) -> None:
        self.code = error.code
        if self._status is not None:
            return  # the answer has begun: all that is left is to end it
        body = error.body(self.request_id)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **error.headers(),
        }
        start = {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})

    def _log(self) -> None:
        seconds = time.monotonic() - self.started
        route = self._scope.get("route")
        path = getattr(route, "path", None) or "other"
        status = self._status or 499
        self._state.metrics.look()
        self._state.metrics.observe(self._scope["method"], path, status, seconds)
        noted = self._scope.get("state", {}).get("noted", {})
        logger.info(
            "%s %s %d",
            self._scope["method"],
            path if path != "other" else self._scope["path"][:200],
            status,
            extra={
                "request_id": self.request_id,
                "method": self._scope["method"],
                "path": self._scope["path"][:200],
                "status": status,
                "milliseconds": round(1000 * seconds, 2),
                "bytes": self._received,
                **({"code": self.code} if self.code else {}),
                **noted,
            },
        )


def retry_after(waiting: int, seconds_a_picture: float) -> int:
    """Whole seconds after which those who wait now will have been answered, within a minute."""
    return max(1, min(60, math.ceil(waiting * seconds_a_picture)))


def _too_large(megabytes: float) -> ServiceError:
    return ServiceError(413, "too_large", f"the body is larger than {megabytes:g} MB; send a smaller picture")

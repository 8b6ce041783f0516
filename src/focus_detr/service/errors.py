"""Every error that a caller is told of: JSON with a code for programs and a sentence for people."""

from __future__ import annotations

import json
from typing import Any

from focus_detr.printable import printable


class ServiceError(Exception):
    """An answer other than the one asked for.

    Args:
        status: of HTTP.
        code: a word that stays the same from version to version.
        message: what is wrong and what would work; no path, no trace.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def content(self, request_id: str) -> dict[str, Any]:
        """The body of the answer."""
        said = {"code": self.code, "message": printable(self.message, 600), "request_id": request_id}
        return {"error": said}

    def headers(self) -> dict[str, str]:
        found = {"cache-control": "no-store"}
        if self.retry_after is not None:
            found["retry-after"] = str(self.retry_after)
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found

    def body(self, request_id: str) -> bytes:
        return json.dumps(self.content(request_id)).encode()


CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_parameter",
    429: "overloaded",
    431: "headers_too_large",
    500: "internal",
    503: "unavailable",
    504: "timeout",
}
"""The code of a status where nothing more is known."""


def of_status(status: int, message: str = "") -> ServiceError:
    """The error of a bare status, as the framework raises it."""
    code = CODES.get(status, "error")
    return ServiceError(status, code, message or code.replace("_", " "))


INTERNAL = ServiceError(500, "internal", "an error inside the service; its log has it under this request id")

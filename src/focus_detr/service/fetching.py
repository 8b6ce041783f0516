"""Pictures behind addresses that callers give: of hosts that are allowed, and of public addresses only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from focus_detr.errors import FocusDetrError
from focus_detr.inference.sources.download import download
from focus_detr.service.errors import ServiceError

logger = logging.getLogger(__name__)

_PORTS = (80, 443)


def fetch_picture(
    url: str, hosts: Sequence[str], timeout: float, max_megabytes: float, request_id: str
) -> bytes:
    """The content behind an address.

    Why an allowed host gave nothing is in the log alone: it would tell strangers about the network here.

    Raises:
        ServiceError: an address that may not be fetched, or that gave nothing.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        raise ServiceError(
            422, "invalid_parameter", "url: give an address that begins with http:// or https://"
        )
    if not is_allowed(host, port or (443 if scheme == "https" else 80), hosts):
        raise ServiceError(
            403, "host_not_allowed", "pictures of this host may not be fetched; send the picture itself"
        )
    try:
        return download(
            url,
            timeout=timeout,
            max_megabytes=max_megabytes,
            allowed=lambda name, number: is_allowed(name, number, hosts),
        )
    except FocusDetrError as error:
        logger.warning("not fetched: %s", error, extra={"request_id": request_id})
        raise ServiceError(
            422,
            "not_fetched",
            "nothing could be fetched from this address: it does not answer in time, redirects to where "
            f"nothing may be fetched, or gives more than {max_megabytes:g} MB",
        ) from error


def is_allowed(host: str, port: int, hosts: Sequence[str]) -> bool:
    """Whether a host may be asked at a port, which is 80 or 443 unless an entry of ``hosts`` says another."""
    name = host.lower().rstrip(".")
    return any(_matches(name, port, entry.lower()) for entry in hosts)


def _matches(name: str, port: int, entry: str) -> bool:
    pattern, _, number = entry.partition(":")
    if port not in ((int(number),) if number else _PORTS):
        return False
    if pattern == "*":
        return True
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern

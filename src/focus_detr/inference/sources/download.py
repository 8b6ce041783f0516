"""Downloads from servers nobody vouches for: one deadline, a limit of size, no way into private networks."""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from focus_detr.errors import FocusDetrError
from focus_detr.printable import printable

_MEGABYTE = 2**20
_LONGEST_ANSWER = 200


Allowed = Callable[[str, int], bool]
"""Whether a host may be asked at a port."""


class Deadline:
    """When everything is to be done, ``seconds`` from now or from when it was last put off."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.put_off()

    def put_off(self) -> None:
        """All of the time is there again, as for the next piece of a stream."""
        self._end = time.monotonic() + self.seconds

    def left(self) -> float:
        """Seconds; raises `TimeoutError` where there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


def download(
    url: str,
    *,
    timeout: float,
    max_megabytes: float,
    private_redirects: bool = False,
    allowed: Allowed | None = None,
) -> bytes:
    """What the address ``url`` (http or https) gives.

    Args:
        timeout: seconds for all of it: names looked up, redirects followed, headers and content read.
        max_megabytes: largest content.
        private_redirects: follow redirects to addresses inside this machine's own networks, too. The address
            ``url`` itself may be one: whoever gives it, knows it. Its name and password go to its host alone.
        allowed: for addresses of strangers: hosts that may be asked, each time a connection is made, and then
            at public addresses only. No proxy is used: it would look names up where nobody here sees it.

    Raises:
        FocusDetrError: no address, one that may not be asked, no answer in time, too large, or an
            answer other than content.
    """
    with answer(url, Deadline(timeout), private_redirects, allowed) as response:
        return content_of(without_password(url), response, max_megabytes)


def content_of(url: str, response: Response, max_megabytes: float) -> bytes:
    """All that an answer holds; `FocusDetrError` where that is too much."""
    limit = int(max_megabytes * _MEGABYTE)
    too_large = FocusDetrError(f"{url}: larger than the limit of {max_megabytes:g} MB")
    if (response.length or 0) > limit:
        raise too_large
    data = bytearray()
    while chunk := response.read1(_MEGABYTE):
        data += chunk
        if len(data) > limit:
            raise too_large
    return bytes(data)


def without_password(url: str) -> str:
    """An address as it may be shown, logged and written: without the name and password that open it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def _request(url: str) -> urllib.request.Request:
    request = urllib.request.Request(
        without_password(url), headers={"User-Agent": "focus-detr", "Accept": "image/*, */*"}
    )
    parts = urlsplit(url)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # For the host that it was given for, and for none that redirects lead to.
        request.add_unredirected_header("Authorization", f"Basic {b64encode(pair.encode()).decode()}")
    return request


@contextmanager
def answer(
    url: str, deadline: Deadline, private_redirects: bool, allowed: Allowed | None = None
) -> Iterator[Response]:
    """A server's answer, its headers read; `FocusDetrError` as `download`, in the block, too."""
    opener, given = _opener(deadline, private_redirects, allowed), url
    url = without_password(url)
    try:
        with opener.open(_request(given), timeout=deadline.seconds) as response:
            yield response
    except FocusDetrError:
        raise
    except urllib.error.HTTPError as error:
        with error:
            raise FocusDetrError(f"{url}: the server answered {error.code} {_words(error.reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, FocusDetrError):
            raise reason from error
        if isinstance(reason, TimeoutError):
            raise FocusDetrError(f"{url}: not downloaded within {deadline.seconds:g} s") from error
        raise FocusDetrError(f"{url}: cannot be downloaded ({_words(reason)})") from error


def _words(reason: object) -> str:
    """What a server said, on one line: it may be long, or meant for the terminal."""
    return " ".join(printable(str(reason) or type(reason).__name__, longest=_LONGEST_ANSWER).split())


def _opener(
    deadline: Deadline, private_redirects: bool, allowed: Allowed | None
) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(None if allowed is None else {}),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(private_redirects),
        _Http(deadline, allowed),
        _Https(deadline, allowed),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Marks requests that a server chose the address of."""

    def __init__(self, private: bool) -> None:
        self._private = private

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.public_only = not self._private  # type: ignore[attr-defined]
        return request


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline, allowed: Allowed | None) -> None:
        super().__init__()
        self._deadline, self._allowed = deadline, allowed

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_made(_Connection, self._deadline, self._allowed, req), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline, allowed: Allowed | None) -> None:
        super().__init__()
        self._deadline, self._allowed = deadline, allowed

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        made = _made(_SecureConnection, self._deadline, self._allowed, req)
        return self.do_open(made, req, context=context)


def _made(
    connection: type[_Connection],
    deadline: Deadline,
    allowed: Allowed | None,
    request: urllib.request.Request,
) -> Any:
    # A proxy, which the user chose, may well be in a private network; what lies behind it is its own affair.
    public_only = getattr(request, "public_only", False) and not request.has_proxy()
    public_only = public_only or allowed is not None
    return partial(connection, deadline=deadline, public_only=public_only, allowed=allowed)


class _Connection(http.client.HTTPConnection):
    """A connection every step of which ends at the deadline."""

    def __init__(
        self, *args: Any, deadline: Deadline, public_only: bool, allowed: Allowed | None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._deadline, self._public_only, self._allowed = deadline, public_only, allowed
        self.response_class = partial(Response, deadline=deadline)  # type: ignore[assignment]
        # How http.client lets the socket be chosen, tunnels through proxies and TLS included.
        self._create_connection = self._connected

    def _connected(self, address: tuple[str, int], *_: Any) -> socket.socket:
        """A socket to the first address of the name that answers and may be reached."""
        host, port = address
        if self._allowed is not None and not self._allowed(host, port):
            raise FocusDetrError(f"{printable(host, 100)}: pictures of this host may not be fetched")
        if not 0 < port < 2**16:
            raise OSError(f"there is no port {port}")  # the system would take what is left of it
        problem: OSError | None = None
        for family, kind, protocol, _name, place in _looked_up(host, port, self._deadline):
            if self._public_only and not _is_public(place[0]):
                if self._allowed is not None:
                    raise FocusDetrError(f"{host} ({place[0]}): an address in a private network")
                raise FocusDetrError(
                    f"the server redirects to {host} ({place[0]}), an address in a private network, which is "
                    "not followed; name that address as the source itself, or allow it: "
                    "--private-redirects, in Python private_redirects=True"
                )
            channel = socket.socket(family, kind, protocol)
            try:
                channel.settimeout(self._deadline.left())
                channel.connect(place)
                # TLS begins with what is left, and its handshake ends with it.
                channel.settimeout(self._deadline.left())
                return channel
            except OSError as error:
                channel.close()
                problem = error
        raise problem or OSError(f"no address of {host}")


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """Ours first: the other's constructor knows nothing of deadlines."""


class Response(http.client.HTTPResponse):
    """An answer whose bytes come before the deadline, or not at all."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock, deadline))
        self._channel = sock

    def hang_up(self) -> None:
        """End the connection; a thread that waits for more finds its end."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)


class _Timed(io.RawIOBase):
    """A socket's bytes until the deadline: its own timeout starts again with every byte that drips in."""

    def __init__(self, channel: socket.socket, deadline: Deadline) -> None:
        self._channel, self._deadline = channel, deadline
        self._raw = channel.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._channel.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _looked_up(host: str, port: int, deadline: Deadline) -> list[Any]:
    """The addresses of a name; beside this thread, since a resolver takes its own time."""
    found: list[Any] = []

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    looker.join(deadline.left())
    if not found:
        raise TimeoutError
    if isinstance(found[0], Exception):
        raise OSError(f"{host}: {found[0]}")
    addresses: list[Any] = found[0]
    return addresses


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_SPECIAL = [ipaddress.ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")]
"""What some versions of `ipaddress` take for the open Internet: of protocols, relays and documentation."""


def _is_public(address: str) -> bool:
    """Whether an address lies in the open Internet, and not in one's own network or machine."""
    place = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(place, ipaddress.IPv6Address):
        # Addresses of the older kind in those of the newer.
        older = place.ipv4_mapped or place.sixtofour or (place.teredo or (None, None))[1]
        if place in _TRANSLATED:
            older = ipaddress.IPv4Address(int(place) & 0xFFFFFFFF)
        if older is None and place not in _GLOBAL_UNICAST:
            return False
        place = older or place
    special = any(place in network for network in _SPECIAL)
    return place.is_global and not place.is_multicast and not special

"""Requests broken at random: each is answered or refused in JSON, none with 5xx, and the service goes on.

A round is made of its seed alone, as those of `helpers.fuzzing` are.
"""

from __future__ import annotations

import json
import random
import re
import socket
from collections.abc import Callable

from helpers.fuzzing_pictures import broken_picture

_WORDS = [
    "", "0", "1", "-1", "0.5", "1e309", "nan", "true", "maybe", "red", "green,red", "\x00", "ä猫", "%", "[]",
    "../../etc/passwd", "' OR 1=1", "${7*7}", "null", "2" * 400, "a" * 3000, "\u202e", "\ud83d",
]  # fmt: skip
_NAMES = ["model", "threshold", "classes", "budget", "heatmap", "where", "treshold", "image", "", "model[]"]
_PATHS = [
    "/v1/detect", "/v1/detect-batch", "/v1/detect-url", "/v1/jobs", "/v1/models", "/healthz", "/metrics", "/",
    "/v1/jobs/" + "0" * 32, "/v1/jobs/x/results", "/examples", "/examples/pictures/../../settings.py", "/..",
    "//", "/openapi.json", "/examples/pictures/%00", "/%2e%2e/x",
]  # fmt: skip
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW", "CONNECT", "TRACE"]
_FORM = "multipart/form-data; boundary=b"
_KINDS = [
    "image/png", "image/jpeg", "image/", "image/*", "multipart/form-data", "multipart/form-data; boundary=",
    _FORM, "multipart/mixed; boundary=b", "application/json", "text/html", "\x7f", "",
]  # fmt: skip
_BODIES = [b"", b"{}", b"[1, 2", b"\x00" * 50, b"--b--", b"--b\r\n\r\n\r\n--b--\r\n"]
_URLS = [*_WORDS, "http://127.0.0.1:1/", "http://[::1]/", "file:///etc/passwd", "http://a@b:c/"]


def request_round(port: int, seed: int) -> tuple[int, str | None]:
    """Sends one request: its status, 0 where the service just closed, and what should not have come."""
    chance = random.Random(seed)
    content, whole = chance.choice(_MAKERS)(chance)
    try:
        answer = _exchange(port, content, whole, chance)
    except TimeoutError:
        return 0, f"no answer in time to {content[:200]!r}"
    except OSError:  # closed while it was sent, as what is no HTTP may be
        return 0, None
    status, problem = _judged(answer)
    return status, problem and f"{problem}: {answer[:500]!r}\nto {content[:500]!r}"


def _exchange(port: int, content: bytes, whole: bool, chance: random.Random) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as channel:
        for piece in _pieces(content, chance):
            channel.sendall(piece)
        if not whole:
            channel.shutdown(socket.SHUT_WR)
        data = b""
        while piece := channel.recv(65536):
            data += piece
        return data


def _pieces(content: bytes, chance: random.Random) -> list[bytes]:
    if chance.random() < 0.7 or len(content) < 3:
        return [content]
    at = chance.randrange(1, len(content))
    return [content[:at], content[at:]]


def _judged(answer: bytes) -> tuple[int, str | None]:
    if not answer:
        return 0, None
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        status = int(head.split()[1])
    except (IndexError, ValueError):
        return 0, "no HTTP"
    if status >= 500:
        return status, f"status {status}"
    if status < 400 or not body:
        return status, None
    # Bytes broken so may be two requests, with two answers.
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    body = body[: int(length[1])] if length else body
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return status, "an error that is no JSON"
    if (
        set(said) != {"code", "message", "request_id"}
        or "Trace" in said["message"]
        or ".py" in said["message"]
    ):
        return status, "an error that says too little or too much"
    return status, None


def _request(method: str, path: str, body: bytes = b"", kind: str = "", length: int | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    head += f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode("utf-8", "surrogatepass") + body


def _form(*contents: bytes, field: str = "image") -> bytes:
    parts = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'.encode()
        + each
        + b"\r\n"
        for each in contents
    )
    return parts + b"--b--\r\n"


def _asked(chance: random.Random) -> str:
    from urllib.parse import quote

    pairs = []
    for _ in range(chance.randrange(4)):
        value = chance.choice(_WORDS)
        said = quote(value, safe="", errors="surrogatepass") if chance.random() < 0.9 else "%zz&=&&"
        pairs.append(f"{chance.choice(_NAMES)}={said}")
    return "?" + "&".join(pairs) if pairs else ""


def _broken_picture(chance: random.Random) -> tuple[bytes, bool]:
    content = broken_picture(chance.randrange(2**40))
    if chance.random() < 0.5:
        return _request("POST", "/v1/detect", _form(content), _FORM), True
    return _request("POST", "/v1/detect" + _asked(chance), content, "image/png"), True


def _broken_pictures(chance: random.Random) -> tuple[bytes, bool]:
    contents = [broken_picture(chance.randrange(2**40)) for _ in range(chance.randrange(6))]
    body = _form(*contents, field=chance.choice(["image", "image", "images", "picture", ""]))
    path = chance.choice(["/v1/detect-batch", "/v1/detect", "/v1/jobs"])
    return _request("POST", path + _asked(chance), body, _FORM), True


def _odd_parameters(chance: random.Random) -> tuple[bytes, bool]:
    return _request("POST", "/v1/detect" + _asked(chance), _form(b"x"), _FORM), True


def _odd_request(chance: random.Random) -> tuple[bytes, bool]:
    body = chance.choice(
        [b"", b"{}", b"[1, 2", b"\x00" * 50, _form(b"x"), b"--b--", b"--b\r\n\r\n\r\n--b--\r\n"]
    )
    method, path = chance.choice(_METHODS), chance.choice(_PATHS) + _asked(chance)
    length = chance.choice([None, None, None, 0, len(body) + 50, 10**12])
    return _request(method, path, body, chance.choice(_KINDS), length), length in (None, 0)


def _odd_address(chance: random.Random) -> tuple[bytes, bool]:
    url = chance.choice(
        [*_WORDS, "http://127.0.0.1:1/", "http://[::1]/", "file:///etc/passwd", "http://a@b:c/"]
    )
    said = chance.choice(
        [{"url": url}, {"url": [url]}, {"uri": url}, [url], url, {"url": url, "more": 1}, {}]
    )
    body = json.dumps(said).encode("utf-8", "surrogatepass")
    return _request("POST", "/v1/detect-url", body, "application/json"), True


def _broken_bytes(chance: random.Random) -> tuple[bytes, bool]:
    good = bytearray(_request("POST", "/v1/detect", _form(b"x" * 30), _FORM))
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(good))
        change = chance.randrange(3)
        if change == 0:
            good[at] = chance.randrange(256)
        elif change == 1:
            del good[at : at + chance.randrange(1, 20)]
        else:
            good[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 20)))
        if not good:
            break
    return bytes(good), False


_MAKERS: list[Callable[[random.Random], tuple[bytes, bool]]] = [
    _broken_picture,
    _broken_picture,
    _broken_pictures,
    _odd_parameters,
    _odd_request,
    _odd_address,
    _broken_bytes,
]

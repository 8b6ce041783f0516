"""What the service is told when it starts: every limit has a default that a small machine survives."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from focus_detr.errors import FocusDetrError

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?|\*", re.IGNORECASE)
_NAME = re.compile(r"[\w.-]{1,100}")
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class ServiceSettings:
    """How to serve.

    Attributes:
        models: names, folders or exported files; ``name=model`` serves one under a name of its own. The first
            is the default.
        device, deploy: as `Predictor.from_pretrained` takes them.
        setting: that all models are run at, by the name that each has it under; None leaves them as they are.
        max_batch: images that go through a model together; None is 1 on a CPU, which gains little by more,
            and 8 elsewhere.
        max_wait: seconds that an image waits at most for others to share its batch.
        max_queue: requests in work at once; what comes beyond is answered 429.
        max_megabytes: largest body, and largest picture behind an address.
        max_megapixels: largest picture, refused by its header before it is decoded.
        max_files: pictures of one batch request.
        timeout: seconds from a request's first byte to its answer.
        body_timeout: seconds that its body may take of them.
        url_timeout: seconds that a picture's fetching may take of them.
        memory_megabytes: what bodies and pictures in work may take together; None is half of what is free.
        header_timeout: seconds that a connection has for a request's headers.
        linger: seconds that a body may go on arriving that was refused.
        max_connections: open at once; more are closed unanswered.
        grace: seconds that accepted requests have after SIGTERM.
        api_keys: of which each request to `/v1/`, `/metrics` and `/openapi.json` must carry one; none asks
            for none.
        allow_origins: of pages elsewhere that may call the service (CORS).
        allow_urls: hosts whose pictures may be fetched, as ``images.example.org``, ``*.example.org``,
            ``images.example.org:8443`` or ``*``; never addresses in private networks.
        jobs: folder of jobs that outlive the process; None serves none.
        max_jobs: kept at once, finished ones included; what comes beyond is answered 429.
        max_job_files: pictures of one job.
        job_hours: that finished jobs are kept.
        page: whether there is a page at ``/``.
    """

    models: tuple[str, ...] = ()
    device: str | None = None
    setting: str | None = None
    deploy: bool = True
    max_batch: int | None = None
    max_wait: float = 0.005
    max_queue: int = 64
    max_megabytes: float = 20.0
    max_megapixels: float = 50.0
    max_files: int = 32
    timeout: float = 30.0
    body_timeout: float = 15.0
    url_timeout: float = 10.0
    memory_megabytes: float | None = None
    header_timeout: float = 10.0
    linger: float = 5.0
    max_connections: int = 512
    grace: float = 30.0
    api_keys: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    allow_urls: tuple[str, ...] = ()
    jobs: Path | None = None
    max_jobs: int = 1000
    max_job_files: int = 1000
    job_hours: float = 168.0
    page: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if str(field.type).startswith("float") and not (number and 0 < value < 1e9):
                raise FocusDetrError(f"{field.name}={value!r}: must be a number above 0")
            if str(field.type).startswith("int") and not (isinstance(value, int) and number and value > 0):
                raise FocusDetrError(f"{field.name}={value!r}: must be a whole number, 1 or more")
        for key in self.api_keys:
            if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise FocusDetrError(
                    f"api_keys: a key has {_SHORTEST_KEY} printable ASCII characters at least, and no space "
                    "(one that is not shown here has not)"
                )
        for origin in self.allow_origins:
            parts = urlsplit(origin)
            whole = parts.scheme in ("http", "https") and parts.netloc and not parts.path and not parts.query
            if origin != "*" and not whole:
                raise FocusDetrError(
                    f"allow_origins: {origin!r} is no origin; write https://example.org or *"
                )
        for host in self.allow_urls:
            if not _HOST.fullmatch(host) or not 0 < int(host.partition(":")[2] or 80) < 2**16:
                raise FocusDetrError(
                    f"allow_urls: {host!r} is no host; write images.example.org, *.example.org, "
                    "images.example.org:8443 or *"
                )

    @property
    def max_bytes(self) -> int:
        """Of a body."""
        return int(self.max_megabytes * 2**20)

    @property
    def max_pixels(self) -> int:
        """Of a picture."""
        return int(self.max_megapixels * 1e6)

    def named_models(self) -> dict[str, str]:
        """Models by the name they are served under: ``name=model``, or the last part of ``model``."""
        named: dict[str, str] = {}
        for entry in self.models:
            name, equals, model = entry.partition("=")
            if not equals or not _NAME.fullmatch(name):
                name, model = Path(entry).name, entry
                name = name if name not in ("best", "last", "") else Path(entry).resolve().parent.name
            if name in named:
                raise FocusDetrError(f"two models are called {name!r}; give one another name: other={model}")
            named[name] = model
        return named

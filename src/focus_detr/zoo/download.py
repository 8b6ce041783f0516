"""Download a large file: a try that is cut off goes on where it stopped, in the next run if need be.

Pictures of addresses that anyone may name are another matter: see `focus_detr.inference.sources.download`.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError
from focus_detr.printable import printable

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_CONNECT, _SILENCE = 15.0, 30.0  # seconds: to answer at all, and between two pieces
_TRIES = 5  # that each bring something
_PIECE = 2**14
_LARGEST = 16 * 10**9
_LONGEST_ANSWER = 200


class DownloadError(FocusDetrError):
    """The file cannot be had, or not now; the message says why and leaves out from where."""


class _Slow(Exception):
    """It crawls."""


def download(
    url: str, part: Path, *, slowest: float = 1000.0, patience: float = 60.0, largest: int = _LARGEST
) -> None:
    """Write what ``url`` gives to ``part``, going on with what an earlier try left there.

    It goes on only where the server vouches that it is the same file still (RFC 9110, ``If-Range``), and else
    begins anew. What has come is left where it cannot go on.

    Args:
        slowest: bytes a second, on average over ``patience`` seconds, below which it is given up.
        largest: bytes, beyond which it is no model.

    Raises:
        DownloadError: no connection, an answer other than the file, too slow or too large.
    """
    import requests

    for _ in range(_TRIES):
        before = _size(part)
        try:
            return _transfer(url, part, slowest, patience, largest)
        except requests.HTTPError as error:
            assert error.response is not None
            if error.response.status_code != requests.codes.requested_range_not_satisfiable or not before:
                said = f"{error.response.status_code} {error.response.reason}"
                raise DownloadError(f"the server answered {_in_short(said)}") from error
            part.unlink()
        except _Slow as error:
            raise DownloadError(f"less than {slowest:g} bytes a second came{_kept(part)}") from error
        except OSError as error:  # requests' own among them
            if isinstance(error, requests.RequestException) and _size(part) > before:
                logger.info("%s: cut off at %.1f MB; trying again", url, _size(part) / 1e6)
                continue
            raise DownloadError(f"{_words(error)}{_kept(part)}") from error
    raise DownloadError(f"cut off again and again{_kept(part)}")


def _transfer(url: str, part: Path, slowest: float, patience: float, largest: int) -> None:
    from pooch import HTTPDownloader

    voucher = _voucher(part)
    headers = {"User-Agent": "focus-detr", "Accept-Encoding": "identity"}
    with open(part, "ab") as file:
        if file.tell() and voucher.is_file():
            headers |= {"Range": f"bytes={file.tell()}-", "If-Range": voucher.read_text()}
        else:
            _empty(file)
        progress = _Progress(file, part.stem, slowest, patience, largest)

        def begin(response: requests.Response, *_: Any, **__: Any) -> None:
            _check(response, url)
            if response.status_code == 200:  # all of it, asked for or not
                progress.start = 0
                _empty(file)
                _vouch(response, voucher)
            elif response.status_code == 206 and f"bytes {progress.start}-" not in response.headers.get(
                "Content-Range", ""
            ):
                _empty(file)
                raise DownloadError("the server sent another part of the file than was asked for")

        get = HTTPDownloader(
            progress, _PIECE, headers=headers, timeout=(_CONNECT, _SILENCE), hooks={"response": begin}
        )
        try:
            get(url, file, None)
            progress.check_whole()
        finally:
            progress.close()
    voucher.unlink(missing_ok=True)


def _check(response: requests.Response, url: str) -> None:
    """Refuse answers that are no file, before any of it is written."""
    address = response.headers.get("Location", "") if response.is_redirect else ""
    if url.startswith("https:") and address.startswith("http:"):
        raise DownloadError("the server redirects from https to http, which anyone on the way can change")
    if response.ok and response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError("there is a web page now, and no file")


def _vouch(response: requests.Response, voucher: Path) -> None:
    """Keep what the server knows this version of the file by; only a strong tag or a date will do."""
    tag = response.headers.get("ETag", "W/")
    same = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
    if same:
        voucher.write_text(same)
    else:
        voucher.unlink(missing_ok=True)


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


class _Progress:
    """What pooch takes for a bar: it begins where the file ends, and stops what crawls or never ends."""

    def __init__(self, file: IO[bytes], label: str, slowest: float, patience: float, largest: int) -> None:
        from tqdm import tqdm

        self.start = file.tell()
        self._file, self._slowest, self._patience, self._largest = file, slowest, patience, largest
        self._total: int | None = None
        self._bar: Any = tqdm(desc=label, unit="B", unit_scale=True, disable=None, leave=False)
        self._since, self._then = time.monotonic(), self.start

    @property
    def total(self) -> int | None:
        return self._total

    @total.setter
    def total(self, to_come: int) -> None:
        """``to_come`` bytes, as pooch has it; 0 where the server does not say."""
        self._total = self._bar.total = self.start + to_come if to_come else None
        self._then = self.start
        self._check_size(self._total or 0)

    def update(self, _: int) -> None:
        here = self._file.tell()
        self._check_size(here)
        self._bar.update(here - self._bar.n)
        if time.monotonic() - self._since > self._patience:
            if here - self._then < self._slowest * self._patience:
                raise _Slow
            self._since, self._then = time.monotonic(), here

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            _empty(self._file)
            raise DownloadError(f"it has more than {self._largest / 1e9:g} GB, which no model here has")

    def reset(self) -> None:
        """Nothing: pooch would fill it by the length that was announced, and not by what came."""

    def check_whole(self) -> None:
        import requests

        if self._total is not None and self._file.tell() != self._total:
            raise requests.ConnectionError(f"{self._file.tell()} of {self._total} bytes came")

    def close(self) -> None:
        self._bar.close()


def _voucher(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _kept(part: Path) -> str:
    size = _size(part) if _voucher(part).is_file() else 0
    return f"; {size / 1e6:.1f} MB are kept, and the next try goes on from there" if size else ""


def _words(error: Exception) -> str:
    """What went wrong: of what requests wraps, the innermost says it shortest."""
    while error.args and isinstance(inner := getattr(error.args[0], "reason", error.args[0]), Exception):
        error = inner
    return _in_short(str(error) or type(error).__name__)


def _in_short(said: str) -> str:
    """On one line: a server's words may be long, or meant for the terminal."""
    return " ".join(printable(said, longest=_LONGEST_ANSWER).split())

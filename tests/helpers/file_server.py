"""A web server on this machine that gives files, badly if asked to."""

import email.utils
import hashlib
import http.server
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class File:
    """What a path gives.

    Attributes:
        tag: whether it vouches for its version, by an ETag ("strong", "weak"), a date, or not at all.
        cuts: after how many bytes the connection of the first, second ... request ends.
        lie: a 206 answer begins elsewhere than it was asked to.
        length: it says how long it is.
    """

    content: bytes = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    tag: str = "strong"
    cuts: list = field(default_factory=list)
    ranges: bool = True
    lie: bool = False
    length: bool = True
    seconds_before: float = 0
    seconds_between: float = 0
    piece: int = 2**16


class FileServer:
    def __init__(self):
        self.files, self.asked, self.headers = {}, [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server._answer(self)

            def log_message(self, *_):
                pass

        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._web.server_address[1]}/"
        threading.Thread(target=self._web.serve_forever, args=(0.02,), daemon=True).start()

    def _answer(self, request):
        asked = request.headers.get("Range")
        self.headers.append(request.headers)
        self.asked.append((request.path.lstrip("/"), asked))
        file = self.files.get(
            request.path.lstrip("/").partition("?")[0],
            File(status=404, headers={"Content-Type": "text/html"}),
        )
        time.sleep(file.seconds_before)
        tags = self._tags(file)
        start, status = 0, file.status
        if status == 200 and asked and file.ranges and request.headers.get("If-Range") in tags.values():
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(file.content):
                start, status = len(file.content), 416
        request.send_response(status)
        if status == 206:
            said = start + 1 if file.lie else start
            request.send_header("Content-Range", f"bytes {said}-{len(file.content) - 1}/{len(file.content)}")
        for name, value in {**tags, **file.headers}.items():
            request.send_header(name, value)
        if file.length:
            request.send_header("Content-Length", str(len(file.content) - start))
        request.end_headers()
        end = start + file.cuts.pop(0) if file.cuts else len(file.content)
        try:
            for place in range(start, min(end, len(file.content)), file.piece):
                request.wfile.write(file.content[place : min(place + file.piece, end)])
                request.wfile.flush()
                time.sleep(file.seconds_between)
        except OSError:
            pass  # who asked has gone
        request.close_connection = True

    def _tags(self, file):
        digest = hashlib.sha256(file.content).hexdigest()
        return {
            "strong": {"ETag": f'"{digest}"'},
            "weak": {"ETag": f'W/"{digest}"'},
            "date": {"Last-Modified": email.utils.formatdate(int(digest[:8], 16) / 4, usegmt=True)},
            "none": {},
        }[file.tag]

    def close(self):
        self._web.shutdown()
        self._web.server_close()


@contextmanager
def serving(**files):
    server = FileServer()
    server.files |= files
    try:
        yield server
    finally:
        server.close()

"""A camera of the web: JPEG upon JPEG, from a server on this machine that can be made to fail."""

import http.server
import io
import threading
import time
from contextlib import contextmanager

from PIL import Image

from .videos import STEP


def jpeg(index, size=(64, 48)):
    stream = io.BytesIO()
    Image.new("RGB", size, (STEP * (index % 20),) * 3).save(stream, "JPEG", quality=95)
    return stream.getvalue()


class Camera:
    """Gives pictures 0, 1, 2 ... of all connections together, each as bright as `frame_of` reads it.

    Attributes:
        connections: for each connection, how many pictures it gets before it ends; behind the last, the
            server refuses.
        silent: connections stay open at their end, and nothing comes any more.
    """

    def __init__(self, connections, seconds_between=0.02, silent=False, length=True):
        self.connections, self.seconds_between, self.silent = list(connections), seconds_between, silent
        self.length, self.opened, self.given = length, [], 0
        self.closing = threading.Event()
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                camera._answer(self)

            def log_message(self, *_):
                pass

        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._web.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._web.server_address[1]}/stream"
        threading.Thread(target=self._web.serve_forever, args=(0.02,), daemon=True).start()

    def _answer(self, request):
        self.opened.append(time.monotonic())
        if not self.connections:
            request.send_error(503)
            return
        pictures = self.connections.pop(0)
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        try:
            for _ in range(pictures):
                content = jpeg(self.given)
                self.given += 1
                length = f"Content-Length: {len(content)}\r\n" if self.length else ""
                head = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n"
                request.wfile.write(head.encode() + content + b"\r\n")
                request.wfile.flush()
                time.sleep(self.seconds_between)
            while self.silent and not self.closing.wait(0.05):
                pass
        except OSError:
            pass  # who asked has gone
        request.close_connection = True


@contextmanager
def filming(*connections, **options):
    camera = Camera(connections, **options)
    try:
        yield camera
    finally:
        camera.closing.set()
        camera._web.shutdown()
        camera._web.server_close()

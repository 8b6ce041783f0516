"""A camera's RTSP server on this machine: MPEG-TS over RTP inside the connection, as FFmpeg asks for it."""

import io
import socketserver
import struct
import threading
import time
from contextlib import contextmanager

from .videos import write_video


@contextmanager
def streaming(frames=20, rate=20, connections=2):
    """The address of a server that gives a clip of `write_video` to so many that connect, and hangs up."""
    clip = io.BytesIO()
    write_video(clip, frames=frames, rate=rate, format="mpegts", codec="mpeg2video")
    content = clip.getvalue()
    pieces = [content[place : place + 7 * 188] for place in range(0, len(content), 7 * 188)]

    turns = iter(range(connections))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            if next(turns, None) is None:
                return
            while request := self._request():
                method, number = request
                head = {"OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"}.get(method, "")
                body = ""
                if method == "DESCRIBE":
                    body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clip\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"
                    head = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif method == "SETUP":
                    head = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                elif method == "PLAY":
                    head = "Session: 1\r\n"
                self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{head}\r\n{body}".encode())
                if method == "PLAY":
                    self._play()
                    return

        def _request(self):
            lines = []
            while (line := self.rfile.readline().strip()) or not lines:
                if not line:
                    return None
                lines.append(line.decode())
            numbers = [line.partition(":")[2].strip() for line in lines if line.startswith("CSeq")]
            return lines[0].split()[0], numbers[0]

        def _play(self):
            for number, piece in enumerate(pieces):
                clock = int(number / len(pieces) * frames / rate * 90_000)
                packet = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, clock, 1) + piece
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                time.sleep(0.002)

        def finish(self):
            try:
                super().finish()
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/clip"
        server.shutdown()

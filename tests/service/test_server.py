"""Over a real socket: clients that are slow, silent or gone, and an end that finishes what was accepted."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.service.server import WorkerApp, serve
from helpers.services import BlockingModel, fake_predictor, file_of, live_service

PICTURE = file_of()
HEAD = (
    "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    f"Content-Length: {len(PICTURE)}\r\nConnection: close\r\n\r\n"
).encode()


def ask(live, content=PICTURE, path="/v1/detect"):
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=20)
    method = "GET" if content is None else "POST"
    connection.request(method, path, content, {"Content-Type": "image/png"})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read() or b"null")
    connection.close()
    return answer


def rest_of(channel):
    """All that comes until the other side closes."""
    data = b""
    while piece := channel.recv(65536):
        data += piece
    return data


def test_silent_slow_and_half_open_clients_block_nobody():
    with live_service(header_timeout=1.0, body_timeout=1.0, max_queue=20) as live:
        silent = [live.connect() for _ in range(20)]
        slow = [live.connect() for _ in range(10)]
        for channel in slow:
            channel.sendall(HEAD + PICTURE[:20])
        half = live.connect()
        half.sendall(HEAD[:30])
        half.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        assert ask(live)[0] == 200
        assert time.monotonic() - started < 0.8
        ends = [rest_of(channel) for channel in slow]
        assert all(b" 408 " in each.split(b"\r\n")[0] for each in ends)
        assert all(b'"too_slow"' in each for each in ends)
        assert [rest_of(channel) for channel in silent] == [b""] * 20  # closed without a word
        assert rest_of(half) == b""
        assert live.idle()


def test_an_address_that_is_taken_is_said_before_models_are_loaded():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(FocusDetrError, match="--port gives"),
    ):
        serve(WorkerApp(None), "127.0.0.1", taken.getsockname()[1])


def test_headers_that_drip_in_have_an_end():
    with live_service(header_timeout=0.6) as live:
        channel = live.connect()
        ended = None
        for byte in b"GET /healthz HTTP/1.1\r\nHost: " + b"a" * 100:
            try:
                channel.sendall(bytes([byte]))
            except OSError:
                ended = time.monotonic()
                break
            time.sleep(0.02)
        assert ended is not None
        # The second request of a connection may not drip either.
        again = live.connect()
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += again.recv(65536)
        assert b"200 OK" in answer
        again.sendall(b"GET /healthz HT")
        again.settimeout(5)
        assert again.recv(10) == b""


def test_a_body_that_nobody_reads_is_not_read_for_ever():
    with live_service(linger=0.5, max_megabytes=1) as live:
        channel = live.connect()
        channel.sendall(
            HEAD.replace(str(len(PICTURE)).encode(), b"900000000").replace(b"close", b"keep-alive")
        )
        assert b" 413 " in channel.recv(65536)
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 8:
                channel.sendall(b"x" * 1000)
                time.sleep(0.01)
        assert time.monotonic() - started < 5


def test_what_is_no_http_is_answered_with_json():
    with live_service() as live:
        for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/x\r\n\r\n"):
            channel = live.connect()
            channel.sendall(nonsense)
            head, _, body = rest_of(channel).partition(b"\r\n\r\n")
            assert b" 400 " in head.split(b"\r\n")[0] and b"application/json" in head
            assert json.loads(body)["error"]["code"] == "bad_request"
        assert ask(live, None, "/healthz")[0] == 200


def test_more_connections_than_allowed_are_closed():
    with live_service(max_connections=5) as live:
        held = [live.connect() for _ in range(5)]
        time.sleep(0.2)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(live)
        held[0].close()
        time.sleep(0.2)
        assert ask(live)[0] == 200


def test_a_client_that_has_gone_costs_no_model_run():
    model = BlockingModel()
    with live_service({"fake": fake_predictor(model)}) as live:
        model.hold()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask, live)
            assert model.begun.wait(10)
            channel = live.connect()
            channel.sendall(HEAD + PICTURE)
            state = live.app.state.service
            deadline = time.monotonic() + 10
            while state.engine.length < 1 and time.monotonic() < deadline:
                time.sleep(0.01)
            channel.close()
            while state.in_flight > 1 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state.in_flight == 1
            model.go.set()
            assert first.result(10)[0] == 200
        time.sleep(0.2)
        assert model.batch_sizes == [1, 1]  # of warming up and of the first


def test_the_end_finishes_what_was_accepted_and_takes_no_more():
    model = BlockingModel()
    with live_service({"fake": fake_predictor(model)}) as live, ThreadPoolExecutor(8) as pool:
        model.hold()
        accepted = [pool.submit(ask, live) for _ in range(4)]
        state = live.app.state.service
        while state.in_flight < 4:
            time.sleep(0.01)
        kept_open = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
        ending = pool.submit(live.stop)
        time.sleep(0.3)
        with pytest.raises(OSError):
            kept_open.request("GET", "/readyz")  # nobody listens any more
        assert not any(each.done() for each in accepted)
        model.go.set()
        assert [each.result(20)[0] for each in accepted] == [200] * 4
        ending.result(20)


def test_many_clients_at_once_each_get_their_own_answer():
    from helpers.fake_detector import picture

    boxes = [(4 + index, 4, 20 + index, 12) for index in range(40)]
    with live_service(max_queue=64, max_batch=4) as live, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda box: ask(live, file_of(picture(red=box))), boxes))
    for box, (status, answer) in zip(boxes, answers, strict=True):
        assert status == 200
        assert answer["detections"][0]["box"] == pytest.approx(box, abs=0.01)

"""What every request passes: identity, keys, limits, and errors that say no more than they should."""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.service import ServiceSettings
from focus_detr.service.gate import retry_after
from helpers.services import BlockingModel, fake_predictor, file_of, send, service

KEY = "a-key-of-some-length"


def error_of(answer):
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("request_of", "status", "code"),
    [
        (lambda client: client.get("/nowhere"), 404, "not_found"),
        (lambda client: client.put("/v1/detect"), 405, "method_not_allowed"),
        (lambda client: client.get("/v1/detect"), 405, "method_not_allowed"),
        (lambda client: client.post("/v1/detect", content=b"x"), 415, "unsupported_media_type"),
        (lambda client: client.post("/v1/detect", json={"image": "x"}), 415, "unsupported_media_type"),
        (
            lambda client: client.post("/v1/detect", headers={"content-type": "image/png"}),
            400,
            "bad_request",
        ),
        (
            lambda client: client.post(
                "/v1/detect", content=b"--b\r\n", headers={"content-type": "multipart/form-data; boundary=b"}
            ),
            400,
            "bad_request",
        ),
        (
            lambda client: client.post(
                "/v1/detect", content=b"--b\r\n", headers={"content-type": "multipart/form-data"}
            ),
            400,
            "bad_request",
        ),
        (lambda client: client.post("/v1/detect", files={"picture": b"x"}), 400, "bad_request"),
        (lambda client: client.post("/v1/detect", data={"image": "x"}), 415, "unsupported_media_type"),
        (lambda client: send(client, b""), 422, "unreadable_picture"),
        (lambda client: send(client, file_of()[:70]), 422, "unreadable_picture"),
        (
            lambda client: client.post("/v1/detect", files=[("image", b"x"), ("image", b"y")]),
            413,
            "too_many_files",
        ),
    ],
)
def test_errors_are_json_with_a_code(request_of, status, code):
    with service() as client:
        answer = request_of(client)
        assert client.state.in_flight == 0 and client.state.room.used == 0
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_a_failing_model_tells_its_caller_nothing_but_the_request_id(caplog):
    class Failing(BlockingModel):
        broken = False

        def forward(self, *arguments, **options):
            if self.broken:
                raise RuntimeError("a secret in /home/somebody")
            return super().forward(*arguments, **options)

    model = Failing()
    with service({"fake": fake_predictor(model)}) as client:
        model.broken = True
        answer = send(client)
        model.broken = False
        assert send(client).status_code == 200
    assert answer.status_code == 500 and error_of(answer)["code"] == "internal"
    assert "secret" not in answer.text and "/" not in error_of(answer)["message"]
    assert any("secret" in str(record.exc_info) for record in caplog.records)


def test_an_error_inside_is_answered_and_logged(caplog, monkeypatch):
    with service() as client:
        monkeypatch.setattr("focus_detr.service.routes.detecting.detect", None)
        answer = send(client)
    assert answer.status_code == 500 and "NoneType" not in answer.text
    assert any(
        getattr(record, "request_id", "") == error_of(answer)["request_id"] for record in caplog.records
    )


def test_a_callers_request_id_is_kept_if_it_is_one():
    with service() as client:
        kept = client.get("/healthz", headers={"x-request-id": "order-66.a_b"})
        replaced = client.get("/healthz", headers={"x-request-id": "a\tb" + "c" * 80})
    assert kept.headers["x-request-id"] == "order-66.a_b"
    assert len(replaced.headers["x-request-id"]) == 32


def test_large_bodies_are_refused_before_and_while_they_arrive():
    large = file_of(Image.new("RGB", (900, 900)), "BMP")  # 2.4 MB
    with service(max_megabytes=1) as client:
        said = send(client, large)

        def pieces():
            for start in range(0, len(large), 50_000):
                yield large[start : start + 50_000]

        unsaid = client.post("/v1/detect", content=pieces(), headers={"content-type": "image/bmp"})
        assert send(client).status_code == 200
        assert client.state.room.used == 0
    for answer in (said, unsaid):
        assert answer.status_code == 413 and error_of(answer)["code"] == "too_large"


def test_a_decompression_bomb_is_refused_by_its_header():
    bomb = file_of(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    with service(max_megapixels=50) as client:
        answer = send(client, bomb)
    assert answer.status_code == 413 and error_of(answer)["code"] == "too_many_pixels"


def test_where_no_memory_is_left_callers_are_told_when_to_come_back():
    large = file_of(Image.new("RGB", (2000, 2000)), "JPEG")
    with service(memory_megabytes=8) as client:
        answer = send(client, large)  # 40 MB to decode
        assert client.state.room.used == 0
        assert send(client).status_code == 200
    assert answer.status_code == 429 and error_of(answer)["code"] == "overloaded"
    assert int(answer.headers["retry-after"]) >= 1


def test_beyond_the_queue_callers_are_told_when_to_come_back():
    model = BlockingModel()
    with service({"fake": fake_predictor(model)}, max_queue=3) as client, ThreadPoolExecutor(8) as pool:
        model.hold()
        waiting = [pool.submit(send, client) for _ in range(3)]
        assert model.begun.wait(10)
        while client.state.in_flight < 3:
            time.sleep(0.01)
        refused = send(client)
        free = client.get("/v1/models"), client.get("/healthz")
        model.go.set()
        answers = [each.result(20) for each in waiting]
        later = send(client)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert {each.status_code for each in (*free, *answers, later)} == {200}


def test_retry_after_is_as_long_as_the_queue_and_a_minute_at_most():
    assert [retry_after(*each) for each in ((0, 0.1), (30, 0.1), (31, 0.1), (9999, 1))] == [1, 3, 4, 60]


def test_what_takes_too_long_is_given_up_and_not_computed():
    model = BlockingModel()
    with service({"fake": fake_predictor(model)}, timeout=0.6) as client, ThreadPoolExecutor(4) as pool:
        model.hold()
        first = pool.submit(send, client)
        assert model.begun.wait(10)
        second = pool.submit(send, client)
        answers = first.result(10), second.result(10)
        model.go.set()
        while client.state.engine.length:
            time.sleep(0.01)
        computed = len(model.batch_sizes)
        assert send(client).status_code == 200
    assert [each.status_code for each in answers] == [504, 504]
    assert error_of(answers[0])["code"] == "timeout"
    assert computed == 2  # of warming up and of the first: the second was not worth it any more


def test_keys_are_asked_for_where_there_are_any():
    with service(api_keys=(KEY, KEY + "2")) as client:
        headers = [
            {},
            {"authorization": f"Bearer {KEY}"},
            {"authorization": f"bearer {KEY}2"},
            {"x-api-key": KEY},
            {"x-api-key": KEY[:-1]},
            {"authorization": f"Bearer {KEY}é".encode()},
            {"authorization": f"Basic {KEY}"},
        ]
        statuses = [send(client, headers=each).status_code for each in headers]
        refused = client.get("/metrics")
        assert client.get("/openapi.json").status_code == 401
        assert client.get("/healthz").status_code == client.get("/examples").status_code == 200
    assert statuses == [401, 200, 200, 200, 401, 401, 401]
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert KEY not in refused.text


def test_the_description_says_whether_keys_are_asked_for_and_has_examples():
    with service() as client:
        described = client.get("/openapi.json").json()
    with service(api_keys=(KEY,)) as client:
        guarded = client.get("/openapi.json", headers={"x-api-key": KEY}).json()
    route = described["paths"]["/v1/detect"]["post"]
    assert "security" not in route and guarded["paths"]["/v1/detect"]["post"]["security"]
    assert "security" not in guarded["paths"]["/healthz"]["get"]
    example = route["responses"]["200"]["content"]["application/json"]["example"]
    assert example["detections"] and set(route["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
    }
    assert {"408", "413", "415", "422", "429", "503", "504"} <= set(route["responses"])


def test_every_key_is_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "focus_detr.service.gate.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b
    )
    with service(api_keys=(KEY, KEY + "2")) as client:
        assert send(client, headers={"x-api-key": KEY}).status_code == 200
    assert compared == [(KEY.encode(), KEY.encode()), (KEY.encode(), f"{KEY}2".encode())]


def test_pages_elsewhere_may_call_only_if_they_are_named():
    origin = {"origin": "https://lab.example.org"}
    preflight = {**origin, "access-control-request-method": "POST"}
    with service() as client:
        assert "access-control-allow-origin" not in send(client, headers=origin).headers
    with service(allow_origins=("https://lab.example.org",), api_keys=(KEY,)) as client:
        allowed = client.options("/v1/detect", headers=preflight)
        other = client.options("/v1/detect", headers={**preflight, "origin": "https://evil.example.org"})
        refused = send(client, headers=origin)
    assert allowed.headers["access-control-allow-origin"] == "https://lab.example.org"
    assert "access-control-allow-origin" not in other.headers
    assert refused.status_code == 401  # which the page may read
    assert refused.headers["access-control-allow-origin"] == "https://lab.example.org"


def test_each_request_has_its_line_in_the_log_as_json(caplog):
    from focus_detr.service.logs import JsonFormatter

    caplog.set_level(logging.INFO, "focus_detr.service")
    with service() as client:
        answer = send(client, headers={"x-request-id": "mine"})
        client.get("/no%0Awhere")
    assert answer.status_code == 200
    lines = [json.loads(JsonFormatter().format(each)) for each in caplog.records if hasattr(each, "status")]
    first, second = lines
    assert first["request_id"] == "mine" and first["status"] == 200 and first["objects"] == 2
    assert first["model"] == "fake" and first["batch"] == 1 and first["milliseconds"] > 0
    assert second["status"] == 404 and second["code"] == "not_found"


def test_figures_count_what_happened():
    with service() as client:
        send(client), send(client), client.get("/nowhere"), client.get("/elsewhere")
        text = client.get("/metrics").text
    assert 'focus_detr_requests_total{method="POST",path="/v1/detect",status="200"} 2.0' in text
    assert 'focus_detr_requests_total{method="GET",path="other",status="404"} 2.0' in text
    assert 'focus_detr_detections_total{class="red",model="fake"} 2.0' in text
    assert 'focus_detr_stage_seconds_count{model="fake",stage="model"} 2.0' in text
    assert "focus_detr_in_flight 0.0" in text and "focus_detr_memory_bytes 0.0" in text


def test_two_applications_in_one_process_count_apart():
    with service() as one, service() as other:
        send(one)
        assert 'status="200"} 1.0' in one.get("/metrics").text
        assert "/v1/detect" not in other.get("/metrics").text


def test_readiness_ends_before_the_service_does():
    with service() as client:
        assert client.get("/readyz").status_code == 200
        client.state.draining = True
        answers = client.get("/readyz"), send(client)
        alive = client.head("/healthz")
        client.state.draining = False
    assert [each.status_code for each in answers] == [503, 503] and alive.status_code == 200
    assert "retry-after" in answers[1].headers


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"max_queue": True}, "max_queue=True"),
        ({"max_batch": 0}, "max_batch=0"),
        ({"memory_megabytes": 0}, "memory_megabytes"),
        ({"api_keys": ("short",)}, "16 printable"),
        ({"allow_origins": ("example.org",)}, "no origin"),
        ({"allow_urls": ("http://example.org",)}, "no host"),
        ({"allow_urls": ("example.org:0",)}, "no host"),
        ({"allow_urls": ("example.org:65616",)}, "no host"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, words):
    with pytest.raises(FocusDetrError, match=words) as refused:
        ServiceSettings(**settings)
    assert "short" not in str(refused.value)


def test_models_are_named_and_no_name_twice(tmp_path):
    settings = ServiceSettings(models=("blood-cells", "mine=runs/a/best", "runs/b/best", "cells.onnx"))
    assert list(settings.named_models()) == ["blood-cells", "mine", "b", "cells.onnx"]
    with pytest.raises(FocusDetrError, match="two models are called 'a'"):
        ServiceSettings(models=("a", "x/a")).named_models()


def test_threads_do_not_outlive_their_application():
    before = threading.active_count()
    for _ in range(3):
        with service() as client:
            send(client)
    time.sleep(0.1)
    assert threading.active_count() <= before + 1

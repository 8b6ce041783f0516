"""Jobs: what was accepted is answered once, whatever ends the process meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.service.jobs import Journal
from focus_detr.service.jobs.runner import MOST_TRIES
from helpers.fake_detector import picture
from helpers.pictures import noise
from helpers.services import BlockingModel, fake_predictor, file_of, service

BOXES = [(4 + index, 4, 20 + index, 12) for index in range(10)]
PICTURES = [file_of(picture(red=box)) for box in BOXES]


def submit(client, contents=PICTURES, address="/v1/jobs"):
    files = [("image", (f"{index}.png", content)) for index, content in enumerate(contents)]
    return client.post(address, files=files)


def wait(client, job, status="done"):
    deadline = time.monotonic() + 20
    while (said := client.get(f"/v1/jobs/{job}").json())["status"] != status:
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
    return said


def results(client, job):
    return [json.loads(line) for line in client.get(f"/v1/jobs/{job}/results").text.splitlines()]


def test_a_job_is_accepted_answered_and_forgotten(tmp_path):
    with service(jobs=tmp_path / "jobs") as client:
        accepted = submit(client, [*PICTURES, b"no picture"], "/v1/jobs?threshold=0.5&classes=red")
        assert accepted.status_code == 202
        job = accepted.json()["id"]
        assert accepted.headers["location"] == f"/v1/jobs/{job}"
        said = wait(client, job)
        found = results(client, job)
        assert client.delete(f"/v1/jobs/{job}").status_code == 204
        assert client.get(f"/v1/jobs/{job}").status_code == 404
        assert client.state.room.used == 0
    assert (said["pictures"], said["done"], said["failed"]) == (11, 11, 1)
    by_index = {each["index"]: each for each in found}
    assert set(by_index) == set(range(11)) and len(found) == 11
    assert by_index[10]["error"]["code"] == "unreadable_picture"
    for index, box in enumerate(BOXES):
        assert by_index[index]["name"] == f"{index}.png" and by_index[index]["model"] == "fake"
        assert by_index[index]["detections"][0]["box"] == pytest.approx(box, abs=0.01)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_one_process_left_the_next_finishes(tmp_path):
    journal = Journal(tmp_path)
    parameters = {"model": "fake", "wanted": {"threshold": None, "classes": None, "budget": None,
                                              "heatmap": False, "where": False}}  # fmt: skip
    job = journal.accept(parameters, [(f"{index}.png", content) for index, content in enumerate(PICTURES)])
    # As if a process had been killed while it wrote its third answer.
    old = {"index": 0, "name": "0.png", "detections": ["of the first process"]}
    job.append([{"begin": [0, 1, 2, 3]}, {"index": 0, "answer": old}])
    with open(job.folder / "journal.jsonl", "ab") as stream:
        stream.write(b'{"index": 1, "answer": {"ind')
    with service(jobs=tmp_path) as client:
        wait(client, job.id)
        found = results(client, job.id)
    assert sorted(each["index"] for each in found) == list(range(10))
    assert found[0] == old
    assert next(each for each in found if each["index"] == 1)["detections"][0]["class"] == "red"


def test_a_picture_that_ends_every_process_is_given_up(tmp_path):
    journal = Journal(tmp_path)
    wanted = {"threshold": None, "classes": None, "budget": None, "heatmap": False, "where": False}
    job = journal.accept({"model": "fake", "wanted": wanted}, [("a", PICTURES[0]), ("b", PICTURES[1])])
    job.append([{"begin": [0, 1]}, *[{"begin": [1]}] * (MOST_TRIES - 1)])
    with service(jobs=tmp_path) as client:
        said = wait(client, job.id)
        found = {each["index"]: each for each in results(client, job.id)}
    assert said["failed"] == 1 and found[1]["error"]["code"] == "internal"
    assert found[0]["detections"][0]["class"] == "red"


def test_an_end_of_the_service_leaves_the_rest_to_the_next(tmp_path):
    model = BlockingModel()
    with service({"fake": fake_predictor(model)}, jobs=tmp_path) as client:
        model.hold()
        job = submit(client).json()["id"]
        assert model.begun.wait(10)
        assert client.get(f"/v1/jobs/{job}").json()["status"] == "running"
        # Closing waits for the pictures in work, which go on now.
        import threading

        threading.Timer(0.3, model.go.set).start()
    left = Journal(tmp_path).find(job).describe()
    assert 0 < left["done"] < 10 and left["status"] == "running"
    with service(jobs=tmp_path) as client:
        wait(client, job)
        assert sorted(each["index"] for each in results(client, job)) == list(range(10))


def test_a_job_that_was_not_stored_whole_was_not_accepted(tmp_path, monkeypatch):
    with service(jobs=tmp_path) as client:
        fsync, calls = os.fsync, []

        def full(descriptor):
            calls.append(descriptor)
            if len(calls) == 4:
                raise OSError(28, "No space left on device")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        refused = submit(client)
        monkeypatch.setattr(os, "fsync", fsync)
        assert list(tmp_path.iterdir()) == []
        assert submit(client).status_code == 202
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "unavailable"
    assert "retry-after" in refused.headers


def test_jobs_have_limits(tmp_path):
    with service(jobs=tmp_path, max_jobs=2, max_job_files=3) as client:
        many = submit(client, PICTURES[:4])
        bad = submit(client, PICTURES[:1], "/v1/jobs?classes=blue")
        statuses = [submit(client, PICTURES[:1]).status_code for _ in range(3)]
    assert many.status_code == 413 and bad.status_code == 422
    assert statuses == [202, 202, 429]


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fetc", "0" * 31, "0" * 32, "." + "0" * 32, "a/results"])
def test_ids_that_are_none_lead_nowhere(tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    with service(jobs=tmp_path / "jobs") as client:
        for address in (f"/v1/jobs/{name}", f"/v1/jobs/{name}/results"):
            answer = client.get(address)
            assert answer.status_code in (404, 422) and "secret" not in answer.text


def test_a_folder_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(FocusDetrError, match="jobs .*: cannot be made .Read-only file system"):
        Journal(tmp_path / "jobs")


def test_without_a_folder_there_are_no_jobs():
    with service() as client:
        assert submit(client).status_code in (404, 405)


def test_finished_jobs_are_removed_after_their_time(tmp_path):
    journal = Journal(tmp_path, hours=1)
    wanted = {"threshold": None, "classes": None, "budget": None, "heatmap": False, "where": False}
    jobs = [journal.accept({"model": "fake", "wanted": wanted}, [("a", PICTURES[0])]) for _ in range(3)]
    for job in jobs[1:]:
        job.done.touch()
    for place in (jobs[0].folder, jobs[1].done):
        os.utime(place, (time.time() - 7200,) * 2)
    journal.tidy()
    assert [each.id for each in journal.unfinished()] == [jobs[0].id]
    assert {each.id for each in journal.jobs()} == {jobs[0].id, jobs[2].id}  # unfinished, and young


@pytest.mark.parametrize("years", [-50, 50])
def test_a_clock_that_is_set_does_not_age_what_is_kept(tmp_path, monkeypatch, years):
    journal = Journal(tmp_path, hours=1)
    job = journal.accept({"model": "fake", "wanted": {}}, [("a", PICTURES[0])])
    job.done.touch()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + years * 365 * 86400)
    journal.tidy()
    assert [each.id for each in journal.jobs()] == [job.id]


class Process:
    """`focus-detr serve` in a process of its own."""

    def __init__(self, model, jobs, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "focus_detr", "serve", f"tiny={model}", "--port", str(self.port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--jobs", str(jobs), *options], stderr=subprocess.PIPE, text=True, env=environment
        )
        deadline = time.monotonic() + 120
        while self.get("/readyz")[0] != 200:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def get(self, path):
        return self._open(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, path, contents):
        parts = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="image"; filename="{index}"\r\n\r\n'.encode()
            + content
            + b"\r\n"
            for index, content in enumerate(contents)
        )
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        address = f"http://127.0.0.1:{self.port}{path}"
        return self._open(urllib.request.Request(address, parts + b"--x--\r\n", headers))

    def _open(self, request):
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def end(self, number):
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.mark.slow
def test_a_killed_service_loses_no_job_and_its_answers_are_those_of_one_that_lived(tmp_path, tiny_model):
    pictures = [file_of(noise(90 + 5 * index, 80)) for index in range(40)]
    first = Process(tiny_model, tmp_path / "jobs")
    job = json.loads(first.post("/v1/jobs?threshold=0", pictures)[1])["id"]
    while json.loads(first.get(f"/v1/jobs/{job}")[1])["done"] < 8:
        time.sleep(0.01)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    before = Journal(tmp_path / "jobs").find(job).answers()
    assert 8 <= len(before) < 40
    second = Process(tiny_model, tmp_path / "jobs")
    deadline = time.monotonic() + 60
    while json.loads(second.get(f"/v1/jobs/{job}")[1])["status"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found = [json.loads(line) for line in second.get(f"/v1/jobs/{job}/results")[1].splitlines()]
    assert sorted(each["index"] for each in found) == list(range(40))
    assert [found[index] for index in range(len(before))] == list(before.values())
    for index in (0, 20, 39):
        answer = json.loads(second.post("/v1/detect?threshold=0", [pictures[index]])[1])
        assert answer["detections"] == next(e for e in found if e["index"] == index)["detections"]
    assert second.end(signal.SIGTERM) == -signal.SIGTERM or second.process.returncode == 143


def workers_of(service):
    import psutil

    children = psutil.Process(service.process.pid).children()
    return [each for each in children if "spawn_main" in " ".join(each.cmdline())]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_anew(tmp_path, tiny_model):
    service = Process(tiny_model, tmp_path / "jobs", "--workers", "1")
    (worker,) = workers_of(service)
    worker.kill()
    deadline = time.monotonic() + 120
    while service.post("/v1/detect", [file_of()])[0] != 200:
        assert time.monotonic() < deadline and service.process.poll() is None
        time.sleep(0.2)
    assert service.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_figures_are_those_of_all_workers_whoever_is_asked(tmp_path, tiny_model):
    service = Process(tiny_model, tmp_path / "jobs", "--workers", "2")
    answered = 'focus_detr_requests_total{method="POST",path="/v1/detect",status="200"}'

    def figures():
        said = [line.rpartition(" ") for line in service.get("/metrics")[1].splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in said}

    def wait_for(number):
        deadline = time.monotonic() + 120
        while figures().get("focus_detr_workers") != number:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    wait_for(2)
    assert [service.post("/v1/detect", [file_of()])[0] for _ in range(9)] == [200] * 9
    assert [figures()[answered] for _ in range(9)] == [9] * 9  # one of the two, as it happens
    assert figures()["focus_detr_in_flight"] == 0
    limit = figures()["focus_detr_memory_limit_bytes"]
    resident = figures()["process_resident_memory_bytes"]
    assert resident > 1.5 * min(each.memory_info().rss for each in workers_of(service))
    workers_of(service)[0].kill()
    time.sleep(1)
    wait_for(2)
    assert figures()[answered] == 9 and figures()["focus_detr_memory_limit_bytes"] == limit
    assert service.end(signal.SIGTERM) == 0

"""Requests broken at random, a few of them; `python scripts/fuzz_service.py --requests 5000` sends many."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.services import fake_predictor, live_service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_broken_requests_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    fuzzing = importlib.import_module("fuzz_service")
    failures, statuses, growth = fuzzing.fuzz(7, 300, tmp_path)
    assert failures == [] and growth < 2 * fuzzing.MOST_GROWTH
    # They come as far as the model, and to every kind of refusal.
    assert {200, 400, 404, 413, 422} <= set(statuses)


@pytest.mark.slow
def test_what_the_description_promises_holds(tmp_path):
    """schemathesis makes requests of the OpenAPI document, valid ones and others, and judges the answers."""
    tool = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip("schemathesis is not installed (extra dev)")
    with live_service({"fake": fake_predictor()}, jobs=tmp_path / "jobs") as live:
        options = ["--checks", CHECKS, "--max-examples", "25", "--seed", "1"]
        done = subprocess.run(
            [tool, "run", f"{live.url}/openapi.json", *options],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout[-8000:]

"""focus-detr serve: what it is told, and what it refuses before a model is loaded."""

import sys

import pytest
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError

KEY = "a-key-of-some-length"


@pytest.fixture
def run(monkeypatch):
    """Runs the verb up to where it would serve; what it would serve with, or the refusal."""
    from focus_detr.service import server

    told = []
    monkeypatch.setattr(server, "serve", lambda *arguments: told.append(arguments))

    def call(*arguments, **environment):
        result = CliRunner().invoke(app, ["serve", *arguments], env=environment)
        if isinstance(result.exception, FocusDetrError):
            return str(result.exception)
        assert result.exit_code == 0, result.output
        return told.pop()

    return call


def test_options_become_settings(run, tmp_path):
    (tmp_path / "keys").write_text(f"# of the lab\n{KEY}\n\n{KEY}2\n")
    made, host, port, workers = run(
        "cells=blood-cells", "--port", "81", "--max-wait", "20", "--max-queue", "9", "--timeout", "7",
        "--no-page", "--no-deploy", "--api-key-file", str(tmp_path / "keys"), "--allow-origin", "https://a.example",
        "--allow-url", "*.example", "--threads", "1", "--jobs", str(tmp_path / "jobs"), "--workers", "2",
        FOCUS_DETR_API_KEY=KEY + "3",
    )  # fmt: skip
    settings = made.settings
    assert (host, port, workers, made.threads, made.log_format) == ("127.0.0.1", 81, 2, 1, "json")
    assert settings.named_models() == {"cells": "blood-cells"}
    assert settings.api_keys == (KEY + "3", KEY, KEY + "2")
    assert (settings.max_wait, settings.max_queue, settings.timeout) == (0.02, 9, 7)
    assert settings.body_timeout == 7  # no longer than the whole
    assert not settings.page and not settings.deploy and settings.jobs == tmp_path / "jobs"
    assert settings.allow_origins == ("https://a.example",) and settings.allow_urls == ("*.example",)


def test_what_is_open_to_everybody_is_said(run):
    open_to_all = ["serve", "blood-cells", "--host", "0.0.0.0"]
    result = CliRunner().invoke(app, open_to_all, env={"FOCUS_DETR_API_KEY": KEY})
    assert "anyone" not in result.output
    result = CliRunner().invoke(app, open_to_all)
    assert "anyone who reaches 0.0.0.0:8000 may use this service" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-model"], "'no-such-model' not found"),
        (["blood-cells", "other/blood-cells"], "two models are called 'blood-cells'"),
        (["blood-cells", "--log-format", "xml"], "must be one of json, text"),
        (["blood-cells", "--api-key-file", "nowhere"], "cannot be read"),
        (["blood-cells", "--api-key-file", "empty"], "holds no key"),
        (["blood-cells", "--api-key-file", "short"], "16 printable"),
        (["blood-cells", "--timeout", "0"], "timeout=0"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("# none\n")
    (tmp_path / "short").write_text("short\n")
    assert words in run(*arguments)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart", "prometheus_client"])
def test_a_missing_extra_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(app, ["serve", "blood-cells"])
    assert f"needs the package {package}: pip install 'focus-detr[serve]'" in str(result.exception)

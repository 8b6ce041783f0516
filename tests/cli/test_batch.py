"""focus-detr batch, from its arguments to its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from helpers.batches import letters, paths, results, write_pictures

pytest.importorskip("pyarrow")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], catch_exceptions=False)


def test_a_run_is_finished_and_left_as_it_is_by_the_same_command(tiny_model: Path, tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "in", 5)
    Path(names[3]).write_bytes(b"junk")
    asked = (tiny_model, tmp_path / "in", "--output", tmp_path / "out", "--local", "--threshold", 0.01)
    first = run(*asked, "--block-size", 2)
    assert first.exit_code == 0
    assert "5 pictures" in first.stdout and "undecodable: 1" in first.stdout
    assert paths(tmp_path / "out") == names[:3] + names[4:]
    assert letters(tmp_path / "out") == {names[3]: "undecodable"}
    assert {each["name"] for row in results(tmp_path / "out") for each in row["objects"]} <= {"cell", "dot"}
    again = run(*asked, "--block-size", 2, "--json")
    assert json.loads(again.stdout)["detected"] == 4
    assert "finished" in again.stderr
    with pytest.raises(FocusDetrError, match="--block-size: 3 is not what the run"):
        run(*asked, "--block-size", 3)


def test_it_answers_as_predict_does(tiny_model: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    options = ("--threshold", "0.01", "--threshold", "dot=0.02", "--classes", "cell=thing,dot=thing")
    run(
        tiny_model,
        tmp_path / "in",
        "--output",
        tmp_path / "out",
        "--local",
        "--format",
        "json,coco",
        *options,
    )
    asked = ["predict", tiny_model, tmp_path / "in", "--output", tmp_path / "one", "--format", "json,coco"]
    arguments = [*map(str, asked), *options, "--no-images"]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    for name in ("detections.jsonl", "detections.coco.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "one" / name).read_text()


def test_threads_of_a_local_run_wait_asleep(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is read when torch is imported, which is why a process of its own is asked."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    write_pictures(tmp_path / "in", 1)
    script = (
        "import builtins, os, sys; from focus_detr.cli import app; "
        "assert 'torch' not in sys.modules; "
        "real = builtins.__import__\n"
        "def see(name, *more):\n"
        "    if name == 'torch' and 'torch' not in sys.modules: print(os.environ['OMP_WAIT_POLICY'])\n"
        "    return real(name, *more)\n"
        "builtins.__import__ = see\n"
        "app(sys.argv[1:])"
    )
    asked = ["batch", tiny_model, tmp_path / "in", "--output", tmp_path / "out", "--local"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, asked)], capture_output=True, text=True)
    assert done.stdout.splitlines()[:1] == ["passive"], done.stderr


def test_no_result_at_all_is_exit_code_1(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"junk")
    assert run(tiny_model, tmp_path / "bad.png", "--output", tmp_path / "out", "--local").exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--local", "--address", "auto"), "--local"),
        (("--local", "--format", "csv"), "'csv': not known; use any of parquet, coco, json"),
        (("--local", "--format", ","), "names none"),
        (("--local", "--threshold", "2"), "between 0 and 1"),
        (("--local", "--threshold", "nope=0.5"), "the model has no class 'nope'"),
        (("--local", "--classes", "nope"), "the model has no class 'nope'"),
        (("--classes", "nope=cell"), "the model has no class 'nope'"),
    ],
)
def test_options_that_cannot_be_used_are_said(
    options: tuple[str, ...], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "in", 1)
    with pytest.raises(FocusDetrError, match=message):
        run(tiny_model, tmp_path / "in", "--output", tmp_path / "out", *options)
    assert not (tmp_path / "out" / "run.json").exists()

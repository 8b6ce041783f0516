"""focus-detr predict, cut off by a key, a signal, an error or a full disk: what was found stays."""

import json
import os
import signal

import pytest
from PIL import Image
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.cli.app import main
from focus_detr.errors import FocusDetrError
from helpers.predicting import ctrl_c, kept_files, predict, stop_at


@pytest.fixture
def many(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(6):
        Image.new("RGB", (32, 32), (number, 90, 90)).save(tmp_path / "many" / f"{number}.png")
    return tmp_path / "many"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_after_ctrl_c_the_files_hold_what_was_found(many, stand_in, monkeypatch, options):
    stop_at(3, ctrl_c, monkeypatch)
    out = many.parent / "out"
    arguments = [many, "--output", out, "--format", "csv,json,coco", "--batch-size", "2", *options]
    result = predict(*arguments)
    assert result.exit_code == 130
    assert kept_files(out) == (4, 4)
    assert f"interrupted after 4 images; what was found in them is in {out}" in result.stderr
    if options:
        assert len(json.loads(result.stdout)) == 4


def test_a_terminated_run_keeps_what_was_found_and_ends_with_143(many, stand_in, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    stop_at(2, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    out = many.parent / "out"
    words = ["predict", "any", many, "--output", out, "--format", "csv,json,coco", "--batch-size", "3"]
    monkeypatch.setattr("sys.argv", ["focus-detr", *map(str, words)])
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert kept_files(out) == (3, 3)


def test_an_error_in_the_middle_keeps_what_was_found(many, stand_in, monkeypatch):
    def fail():
        raise FocusDetrError("out of memory")

    stop_at(2, fail, monkeypatch)
    out = many.parent / "out"
    with pytest.raises(FocusDetrError, match="out of memory"):
        predict(many, "--output", out, "--format", "csv,json,coco", "--batch-size", "2")
    assert kept_files(out) == (2, 2)


def test_no_space_is_said_in_one_message(many, stand_in, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(FocusDetrError, match=r"--output .*out: cannot be written to .*No space left"):
        predict(many, "--output", many.parent / "out")
    assert not list((many.parent / "out").glob("*.jpg")) and not list((many.parent / "out").glob(".*"))


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_interrupted_between_two_pictures_the_data_set_holds_what_was_found(
    many, stand_in, monkeypatch, form
):
    stop_at(3, ctrl_c, monkeypatch)
    out = many.parent / "out"
    assert predict(many, "--output", out, "--format", form, "--batch-size", "2").exit_code == 130
    checked = CliRunner().invoke(app, ["check", str(out / form), "--split", "train", "--json"])
    (split,) = json.loads(checked.stdout)
    assert (split["images"], split["objects"]) == (4, {"cell": 8, "dot": 4})
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("options, goes_on", [((), True), (("--track",), False)])
def test_a_run_cut_off_says_that_it_can_go_on_where_it_can(many, stand_in, monkeypatch, options, goes_on):
    if options:
        pytest.importorskip("trackers")
    stop_at(2, ctrl_c, monkeypatch)
    result = predict(many, "--output", many.parent / "out", "--no-images", "--batch-size", "1", *options)
    assert ("--resume goes on" in result.stderr) is goes_on

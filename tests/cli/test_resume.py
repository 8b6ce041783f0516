"""focus-detr predict --resume: a run killed anywhere, and gone on with, leaves what one left alone does."""

import json
import os
import signal

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.inference.journal import Journal
from focus_detr.inference.labels import VocWriter
from focus_detr.inference.writers import CocoWriter, CsvWriter
from focus_detr.pictures.video import VideoWriter
from helpers.videos import write_video

pytest.importorskip("av")

FORMATS = "coco,csv,json,yolo,voc,crops,video"


class ByBrightness:
    """One object whose score and box, to the last digit, come of the picture, and of those in its batch."""

    looked_at = 0

    def infer(self, pixel_values, pixel_mask):
        type(self).looked_at += len(pixel_values)
        level = pixel_values.mean(dim=(1, 2, 3)) + 1e-4 * pixel_values.mean()  # (B,)
        scores = torch.stack([level, -level - 3], dim=-1)[:, None]
        boxes = torch.stack([level.sigmoid(), level.sigmoid(), *[0.2 + level.sigmoid() / 3] * 2], dim=-1)
        return scores, boxes[:, None]


@pytest.fixture
def stand_in(monkeypatch):
    processor = FocusDetrImageProcessor(size=32, do_normalize=False)
    predictor = Predictor(ByBrightness(), processor, ["cell", "dot"], threshold=0.1)
    predictor.max_detections = 2
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *arguments, **options: predictor)
    monkeypatch.setattr("focus_detr.cli.predict.resolve_model", lambda name: name)
    monkeypatch.setattr(ByBrightness, "looked_at", 0)


@pytest.fixture
def photos(tmp_path):
    """Nine pictures, two of one name, one broken, one of surrogates; and a video of three frames."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number in range(9):
        name = "deep/3.png" if number == 8 else f"{number}.png"
        Image.new("RGB", (48, 32), (25 * number, 90, 255 - 20 * number)).save(folder / name)
    write_video(folder / "clip.mp4", frames=3, size=(48, 32))
    (folder / "5.png").write_bytes(b"not an image")
    (folder / "6.png").rename(os.fsdecode(os.fsencode(folder) + b"/6\xff.png"))
    return folder


def predict(*arguments):
    words = ["predict", "any", *map(str, arguments), "--batch-size", "2", "--format", FORMATS]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def killed(owner, name, call, *arguments, after=False):
    """Run in a process that is killed, as by kill -9, when ``owner.name`` is called the ``call``-th time."""
    pid = os.fork()
    if pid == 0:
        try:
            calls, real = iter(range(1, 10_000)), getattr(owner, name)

            def last(*given, **options):
                now = next(calls) == call
                if now and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                answer = real(*given, **options)
                if now:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer

            setattr(owner, name, last)
            predict(*arguments)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "was to be killed, and was not"


def content_of(folder):
    return {
        os.fsencode(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


KILLS = [
    (ByBrightness, "infer", 1, False),
    (ByBrightness, "infer", 3, False),
    (CocoWriter, "add", 4, True),
    (CsvWriter, "add", 4, True),
    (VocWriter, "_write", 5, True),
    (Journal, "add", 1, False),
    (Journal, "add", 5, True),
    (Journal, "add", 9, True),
    (Journal, "finish", 1, False),
    (Journal, "finish", 1, True),
    (Journal, "__enter__", 1, True),
    (Journal, "add", 11, True),
    (VideoWriter, "add", 11, False),
    (VideoWriter, "__exit__", 1, True),
    (os, "replace", 8, False),
    (os, "replace", 9, True),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes to kill")
@pytest.mark.parametrize(("owner", "name", "call", "after"), KILLS)
def test_killed_anywhere_and_resumed_it_is_as_if_left_alone(photos, stand_in, owner, name, call, after):
    alone, broken = photos.parent / "alone", photos.parent / "broken"
    left_alone = predict(photos, "--output", alone, "--json-lines")
    killed(owner, name, call, photos, "--output", broken, after=after)
    resumed = predict(photos, "--output", broken, "--resume", "--json-lines")
    if name == "finish" and after:
        assert "finished" in resumed.stderr
    else:
        assert resumed.stdout == left_alone.stdout
    assert content_of(broken) == content_of(alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes to kill")
def test_a_run_is_killed_as_often_as_it_may_be(photos, stand_in):
    alone, broken = photos.parent / "alone", photos.parent / "broken"
    predict(photos, "--output", alone)
    killed(Journal, "add", 3, photos, "--output", broken)
    killed(CsvWriter, "add", 2, photos, "--output", broken, "--resume")
    killed(ByBrightness, "infer", 2, photos, "--output", broken, "--resume")
    ByBrightness.looked_at = 0
    predict(photos, "--output", broken, "--resume")
    assert content_of(broken) == content_of(alone)
    assert 0 < ByBrightness.looked_at <= 9  # and not eleven: what is done is not done again


def stopped(photos, monkeypatch, call=3, *options):
    """A run ended by Ctrl-C in its ``call``-th batch; its output folder."""
    calls, infer = iter(range(1, 100)), ByBrightness.infer

    def interrupted(self, *batch):
        if next(calls) == call:
            raise KeyboardInterrupt
        return infer(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(ByBrightness, "infer", interrupted)
        assert predict(photos, "--output", photos.parent / "out", *options).exit_code == 130
    return photos.parent / "out"


def lines_of(out):
    return [json.loads(line)["path"] for line in (out / "detections.jsonl").read_text().splitlines()]


def test_after_ctrl_c_it_goes_on(photos, stand_in, monkeypatch):
    predict(photos, "--output", photos.parent / "alone")
    out = stopped(photos, monkeypatch)
    result = predict(photos, "--output", out, "--resume")
    assert result.exit_code == 0 and ["all", "11", "11"] in [
        row.split() for row in result.stdout.splitlines()
    ]
    assert content_of(out) == content_of(photos.parent / "alone")


def test_pictures_that_came_since_are_looked_at_and_gone_ones_stay(photos, stand_in, monkeypatch):
    out = stopped(photos, monkeypatch)
    (photos / "1.png").unlink()
    Image.new("RGB", (48, 32), "white").save(photos / "2b.png")
    assert predict(photos, "--output", out, "--resume").exit_code == 0
    found = [os.path.relpath(path, photos) for path in lines_of(out)]
    frames = [f"clip.mp4#frame={index}" for index in range(3)]
    assert sorted(found) == ["0.png", "1.png", "2.png", "2b.png", "3.png", "4.png", "5.png", "6\\xff.png",
                             "7.png", *frames, "deep/3.png"]  # fmt: skip


def test_a_resumed_run_that_is_interrupted_again_loses_nothing(photos, stand_in, monkeypatch):
    out = stopped(photos, monkeypatch)
    before = lines_of(out)
    stopped(photos, monkeypatch, 1, "--resume")
    assert set(before) <= set(lines_of(out))


@pytest.mark.parametrize(
    "options", [["--threshold", "0.3"], ["--classes", "cell"], ["--no-images"], ["--every", "2"]]
)
def test_another_run_is_not_gone_on_with(photos, stand_in, monkeypatch, options):
    out = stopped(photos, monkeypatch)
    before = content_of(out)
    with pytest.raises(FocusDetrError, match="is not what the run to go on with"):
        predict(photos, "--output", out, "--resume", *options)
    assert content_of(out) == before


def test_nothing_to_resume_begins_and_what_is_finished_is_left(photos, stand_in):
    out = photos.parent / "out"
    assert predict(photos, "--output", out, "--resume").exit_code == 0
    before, ByBrightness.looked_at = content_of(out), 0
    result = predict(photos, "--output", out, "--resume")
    assert result.exit_code == 0 and "finished" in result.stderr
    assert content_of(out) == before and ByBrightness.looked_at == 0


def test_without_resume_an_unfinished_run_begins_anew_and_says_so(photos, stand_in, monkeypatch):
    out = photos.parent / "out"
    words = ["predict", "any", str(photos), "--output", str(out), "--format", "csv", "--no-images"]
    infer = ByBrightness.infer
    monkeypatch.setattr(ByBrightness, "infer", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert CliRunner().invoke(app, words).exit_code == 130
    monkeypatch.setattr(ByBrightness, "infer", infer)
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and "--resume would have gone on" in again.stderr
    assert sorted(os.listdir(out)) == ["detections.csv"]


def test_a_damaged_journal_is_named_with_its_line(photos, stand_in, monkeypatch):
    out = stopped(photos, monkeypatch)
    lines = (out / "unfinished.jsonl").read_text().splitlines()
    lines[2] = lines[2][:40]
    (out / "unfinished.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(FocusDetrError, match=r"unfinished.jsonl:3: is damaged"):
        predict(photos, "--output", out, "--resume")


def test_resume_needs_a_folder_and_json_one_form(photos, stand_in):
    with pytest.raises(FocusDetrError, match="--resume: needs a folder"):
        CliRunner().invoke(app, ["predict", "any", str(photos), "--resume"], catch_exceptions=False)
    with pytest.raises(FocusDetrError, match="--json, --json-lines"):
        predict(photos, "--output", photos.parent / "out", "--json", "--json-lines")


def test_json_lines_are_printed_as_images_are_looked_at(photos, stand_in, capfdbinary, monkeypatch):
    """Line by line, and not when a buffer is full or the run ends."""
    printed, infer = [], ByBrightness.infer

    def watched(self, *batch):
        printed.append(capfdbinary.readouterr().out.count(b"\n"))
        return infer(self, *batch)

    monkeypatch.setattr(ByBrightness, "infer", watched)
    app(["predict", "any", str(photos), "--batch-size", "2", "--json-lines"], standalone_mode=False)
    assert sum(printed) + capfdbinary.readouterr().out.count(b"\n") == 12 and printed[:3] == [0, 2, 2]

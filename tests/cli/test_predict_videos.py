"""focus-detr predict of videos and streams: frames, tracks, counts, drawn videos."""

import csv
import json
import sys
import threading
from fractions import Fraction

import pytest
import torch
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from helpers.mjpeg_server import filming
from helpers.predicting import ctrl_c, predict, stop_at
from helpers.videos import write_video


def test_frames_of_a_video_are_results_of_their_own(tmp_path, stand_in):
    pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4", rate=Fraction(25, 2))
    out = tmp_path / "out"
    arguments = [tmp_path / "clip.mp4", "--every", "8", "--output", out, "--format", "csv,json,yolo"]
    assert predict(*arguments, "--json").exit_code == 0
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["seconds"]) for line in lines] == [(0, 0.0), (8, 0.64), (16, 1.28)]
    assert [line["path"] for line in lines] == [f"{tmp_path}/clip.mp4#frame={n}" for n in (0, 8, 16)]
    rows = list(csv.DictReader((out / "detections.csv").open()))
    assert [row["frame"] for row in rows] == ["0"] * 3 + ["8"] * 3 + ["16"] * 3
    names = ["clip-frame0", "clip-frame16", "clip-frame8"]
    assert sorted(path.stem for path in out.glob("*.jpg")) == names
    assert sorted(path.stem for path in (out / "yolo" / "images").iterdir()) == names


def test_the_bar_knows_how_many_frames_there_are(tmp_path, stand_in):
    pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4")
    assert "/10 [" in predict(tmp_path / "clip.mp4", "--fps", "5").stderr


class Spot:
    """Finds the bright spot of a picture."""

    def infer(self, pixel_values, pixel_mask):
        logits, boxes = [], []
        for image in pixel_values:
            height, width = image.shape[1:]
            rows, columns = torch.nonzero(image.mean(0) > 0.5, as_tuple=True)
            low, high = torch.stack([columns.min(), rows.min()]), torch.stack([columns.max(), rows.max()]) + 1
            size = torch.tensor([width, height])
            boxes.append(torch.cat([(low + high) / 2 / size, (high - low) / size])[None])
            logits.append(torch.tensor([[0.9, 0.01]]).logit())
        return torch.stack(logits), torch.stack(boxes)


@pytest.fixture
def moving_spot(tmp_path, monkeypatch):
    """Two videos of a spot that goes from left to right, along the top."""
    pytest.importorskip("trackers")
    av = pytest.importorskip("av")
    for name in ("a", "b"):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
            stream.bit_rate = 2_000_000
            for index in range(16):
                image = Image.new("RGB", (160, 96))
                image.paste("white", (8 * index, 16, 8 * index + 32, 48))
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
            container.mux(stream.encode())
    processor = FocusDetrImageProcessor(do_resize=False, do_normalize=False)
    predictor = Predictor(Spot(), processor, ["car", "dot"], threshold=0.5)
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *arguments, **options: predictor)
    monkeypatch.setattr("focus_detr.cli.predict.resolve_model", lambda name: name)
    return tmp_path


@pytest.mark.parametrize("every", [1, 2])
def test_videos_are_tracked_and_counted(moving_spot, every):
    out = moving_spot / "out"
    result = predict(
        moving_spot / "a.mp4", moving_spot / "b.mp4", "--track", "--detect-every", every,
        "--count-line", "80,0,80,96", "--count-line", "0,90,160,90",
        "--count-zone", "60,0,100,0,100,96,60,96", "--output", out, "--format", "json,csv,coco",
    )  # fmt: skip
    assert result.exit_code == 0
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    assert len(lines) == 32
    assert {item["track_id"] for line in lines[2 * every :] for item in line["objects"]} <= {None, 1}
    assert sum(bool(line.get("foretold")) for line in lines) == (0 if every == 1 else 16)
    assert [lines[at]["counted"]["lines"][0]["to_left"] for at in (0, 15, 16, 31)] == [0, 1, 0, 1]
    counts = json.loads((out / "counts.json").read_text())
    assert [video["video"] for video in counts] == [str(moving_spot / f"{name}.mp4") for name in "ab"]
    for video in counts:
        assert video["tracks"] == {"car": 1}
        assert video["lines"][0]["to_left"] == {"car": 1} and video["lines"][0]["to_right"] == {}
        assert video["lines"][1]["to_left"] == video["lines"][1]["to_right"] == {}
        assert video["zones"][0]["entered"] == {"car": 1} and video["zones"][0]["now"] == {}
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["line", "1", "car", "0", "1"] in rows and ["zone", "1", "car", "1", "0"] in rows
    assert len(list(out.glob("*.jpg"))) == 32


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--steady", "1"], "steady=1.0: must be a share above 0 and below 1"),
        (["--steady", "0.5", "--resume", "--output", "out"], "--resume: the scores of the interrupted run"),
        (["--count-line", "1,2,3,4"], "--count-line: counts what is tracked; add --track"),
        (["--count-zone", "1,2,3,4,5,6"], "--count-zone: counts what is tracked"),
        (["--track", "--count-line", "1,2,3"], "--count-line '1,2,3': must be x,y in pixels of 2 points"),
        (["--track", "--count-line", "1,2,3,4,5,6"], "of 2 points, as in 100,200"),
        (["--track", "--count-line", "1,2,1,2"], "has no sides"),
        (["--track", "--count-line", "1,2,nan,4"], "must be x,y in pixels"),
        (["--track", "--count-zone", "1,2,3,4"], "of 3 points or more"),
        (["--detect-every", "2"], "--detect-every: is of tracking; add --track"),
        (["--track", "--resume", "--output", "out"], "--resume: tracks of the interrupted run are gone"),
    ],
)
def test_unusable_tracking_is_refused_before_the_model_is_loaded(folder, options, problem):
    with pytest.raises(FocusDetrError, match=problem):
        predict(folder / "images", *options)


def test_a_live_source_is_written_and_not_remembered(tmp_path, stand_in, monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setenv("no_proxy", "*")
    out = tmp_path / "out"
    with filming(10, silent=True) as camera:
        stop_at(3, ctrl_c, monkeypatch)
        result = predict(camera.url, "--output", out, "--no-images", "--format", "json")
        assert result.exit_code == 130 and "--resume" not in result.stderr  # what would refuse it
    assert len((out / "detections.jsonl").read_text().splitlines()) == 2
    assert len((out / "unfinished.jsonl").read_text().splitlines()) == 1  # what was asked for, and no result
    with pytest.raises(FocusDetrError, match="--resume: camera:0 is a camera"):
        predict("camera:0", "--output", out, "--resume")
    with filming(10, silent=True) as camera, pytest.raises(FocusDetrError, match="/stream is a camera"):
        # Which only the server's answer tells.
        predict(camera.url, "--output", tmp_path / "new", "--no-images", "--resume")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture")]


def test_frames_are_drawn_to_a_video_where_asked_for(tmp_path, stand_in):
    av = pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4", rate=Fraction(25, 2))
    Image.new("RGB", (64, 32)).save(tmp_path / "still.png")
    out = tmp_path / "out"
    result = predict(tmp_path / "clip.mp4", tmp_path / "still.png", "--output", out, "--format", "video,csv")
    assert result.exit_code == 0 and "clip.mp4: 20 frames, " in result.stderr
    assert {path.name for path in out.iterdir()} == {"clip.mp4", "still.jpg", "detections.csv"}
    with av.open(str(out / "clip.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(25, 2)
    with pytest.raises(FocusDetrError, match="one of the pictures to look at"):
        predict(tmp_path / "clip.mp4", "--output", tmp_path, "--format", "video", "--no-images")


def test_without_pyav_a_video_is_refused_before_any_work(folder, stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FocusDetrError, match=r"focus-detr\[video\]"):
        predict(folder / "images", "--output", folder / "out", "--format", "video")
    assert not (folder / "out").exists()

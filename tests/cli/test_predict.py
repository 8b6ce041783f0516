"""focus-detr predict, with a stand-in for the model: pictures, files, counts, bad images, exit codes."""

import csv
import json
import os
import signal
import sys
from fractions import Fraction

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.cli.app import main
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from helpers.mjpeg_server import filming
from helpers.videos import write_video


class TwoCellsAndADot:
    """Finds two cells and one dot in every image, with probabilities of 0.9, 0.7 and 0.6."""

    def infer(self, pixel_values, pixel_mask):
        probabilities = torch.tensor([[0.9, 0.01], [0.7, 0.01], [0.01, 0.6]])
        boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.5, 0.5, 0.1, 0.1]])
        count = len(pixel_values)
        return probabilities.logit().expand(count, 3, 2), boxes.expand(count, 3, 4)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    Image.new("RGB", (64, 32), "white").save(tmp_path / "images" / "one.png")
    Image.new("RGB", (32, 64), "black").save(tmp_path / "images" / "deep" / "one.jpg")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"not an image")
    return tmp_path


@pytest.fixture
def stand_in(monkeypatch):
    processor = FocusDetrImageProcessor(size=32)
    predictor = Predictor(TwoCellsAndADot(), processor, ["cell", "dot"])
    predictor.max_detections = 3
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *arguments, **options: predictor)
    monkeypatch.setattr("focus_detr.cli.predict.resolve_model", lambda name: name)


def predict(*arguments):
    return CliRunner().invoke(app, ["predict", "any", *map(str, arguments)], catch_exceptions=False)


def test_it_counts_draws_and_writes_and_passes_over_what_cannot_be_read(folder, stand_in):
    result = predict(folder / "images", "--output", folder / "out", "--format", "coco,csv,json")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["cell", "4", "2"] in rows and ["dot", "2", "2"] in rows and ["all", "6", "2"] in rows
    assert "1 of 3 images could not be read" in result.stderr
    names = {"one.jpg", "one-2.jpg", "detections.coco.json", "detections.csv", "detections.jsonl"}
    assert {path.name for path in (folder / "out").iterdir()} == names
    assert len(json.loads((folder / "out" / "detections.coco.json").read_text())) == 6
    assert len(list(csv.DictReader((folder / "out" / "detections.csv").open()))) == 6
    assert len((folder / "out" / "detections.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_labels_are_a_data_set_that_check_opens(folder, stand_in, form):
    out = folder / "out"
    result = predict(folder / "images", "--output", out, "--format", f"{form},crops", "--threshold", "0.65")
    assert result.exit_code == 0 and "1 of 3 images could not be read" in result.stderr
    assert {path.name for path in out.iterdir()} == {"one.jpg", "one-2.jpg", form, "crops"}
    assert sorted(path.name for path in (out / "crops" / "cell").iterdir()) == [
        "one-1.jpg", "one-2-1.jpg", "one-2-2.jpg", "one-2.jpg",
    ]  # fmt: skip
    checked = CliRunner().invoke(app, ["check", str(out / form), "--split", "train", "--json"])
    assert checked.exit_code == 0, checked.output
    (split,) = json.loads(checked.stdout)
    assert (split["images"], split["objects"]) == (2, {"cell": 4, "dot": 0})


@pytest.mark.parametrize("form", ["yolo", "voc", "crops"])
def test_labels_of_an_earlier_run_are_left_alone(folder, stand_in, form):
    arguments = [folder / "images", "--output", folder / "out", "--format", form]
    assert predict(*arguments).exit_code == 0
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*.*")}
    with pytest.raises(FocusDetrError, match=f"--output .*out/{form}: holds files"):
        predict(*arguments)
    assert {path: path.read_bytes() for path in (folder / "out").rglob("*.*")} == before


def test_scores_of_labels_are_written_where_asked_for(folder, stand_in):
    arguments = [folder / "images" / "one.png", "--output", folder / "out", "--no-images"]
    assert predict(*arguments, "--format", "yolo", "--scores").exit_code == 0
    rows = (folder / "out" / "yolo" / "labels" / "one.txt").read_text().splitlines()
    assert [row.split()[0] + row.split()[-1] for row in rows] == ["00.900000", "00.700000", "10.600000"]
    with pytest.raises(FocusDetrError, match="--scores: .*add --format yolo"):
        predict(*arguments, "--format", "voc", "--scores")


def test_a_drawn_picture_shows_the_boxes(folder, stand_in):
    predict(folder / "images" / "one.png", "--output", folder / "out")
    assert len(Image.open(folder / "out" / "one.jpg").getcolors(2**24)) > 1


@pytest.mark.parametrize("source", ["images", "images/*.png", "images/one.png"])
def test_sources_are_never_drawn_over(folder, stand_in, source):
    before = {path: path.read_bytes() for path in (folder / "images").rglob("*.*")}
    with pytest.raises(FocusDetrError, match="one of the pictures to look at"):
        predict(folder / source, "--output", folder / "images")
    assert {path: path.read_bytes() for path in (folder / "images").rglob("*.*")} == before
    # Without pictures there is nothing that could replace one; and a new folder inside is a place of its own.
    assert predict(folder / source, "--output", folder / "images", "--no-images").exit_code == 0
    assert predict(folder / source, "--output", folder / "images" / "drawn").exit_code == 0


def test_the_bar_knows_how_many_there_are(folder, stand_in):
    assert "/3 [" in predict(folder / "images").stderr


def test_json_is_all_that_stdout_holds(folder, stand_in):
    result = predict(folder / "images", "--json", "--threshold", "0.65")
    found = json.loads(result.stdout)
    assert sorted(len(image.get("objects", [])) for image in found) == [0, 2, 2]
    assert sum("error" in image for image in found) == 1


def objects_of(result):
    assert result.exit_code == 0, result.output
    return [(item["name"], item["label"]) for item in json.loads(result.stdout)[0]["objects"]]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["0.65"], ["cell", "cell"]),
        (["cell=0.8"], ["cell", "dot"]),  # 0.9 and 0.6: the model's own 0.5 holds for dots
        (["0.65", "dot=0.3"], ["cell", "cell", "dot"]),
        (["dot=0.3", "0.95"], ["dot"]),
        (["cell=0.95", "dot=0.95"], []),
    ],
)
def test_thresholds_of_all_classes_and_of_one(folder, stand_in, options, found):
    words = [word for option in options for word in ("--threshold", option)]
    result = predict(folder / "images" / "one.png", "--json", *words)
    assert [name for name, _ in objects_of(result)] == found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "1.5"], "--threshold '1.5': must be a score between 0 and 1"),
        (["--threshold", "nan"], "--threshold 'nan'"),
        (["--threshold", "=0.5"], "--threshold '=0.5'"),
        (["--threshold", "cell"], "--threshold 'cell'.*person=0.5"),
        (["--threshold", "0.5", "--threshold", "0.6"], "all classes is said twice"),
        (["--threshold", "cell=0.5", "--threshold", "cell=0.6"], "'cell' is said twice"),
        (["--threshold", "cel=0.5"], r"the model has no class 'cel' \(did you mean 'cell'"),
        (["--classes", "cel=x"], r"the model has no class 'cel' \(did you mean 'cell'"),
        (["--classes", "cell="], "--classes 'cell=': must be a class, or class=name"),
        (["--classes", "cell=x,cell=y"], "'cell' is also to be 'x'"),
        (["--classes", "cell,cell=y"], "'cell' is also to be 'cell'"),
    ],
)
def test_thresholds_and_classes_that_cannot_be_used_are_refused(folder, stand_in, options, said):
    with pytest.raises(FocusDetrError, match=said):
        predict(folder / "images", "--output", folder / "out", *options)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        ("cell=round", [("round", 0), ("round", 0)]),
        ("dot = speck , cell", [("cell", 0), ("cell", 0), ("speck", 1)]),
        ("dot=thing,cell=thing", [("thing", 0), ("thing", 0), ("thing", 0)]),
        ("cell=dot", [("dot", 1), ("dot", 1)]),
    ],
)
def test_classes_are_renamed_and_merged_in_every_output(folder, stand_in, classes, found):
    out = folder / "out"
    arguments = [folder / "images" / "one.png", "--classes", classes, "--output", out, "--json"]
    assert objects_of(predict(*arguments, "--format", "coco,csv,yolo")) == found
    coco = json.loads((out / "detections.coco.json").read_text())
    assert [entry["category_id"] for entry in coco] == [label for _, label in found]
    assert [row["name"] for row in csv.DictReader((out / "detections.csv").open())] == [
        name for name, _ in found
    ]
    names = (out / "yolo" / "classes.txt").read_text().splitlines()
    rows = (out / "yolo" / "labels" / "one.txt").read_text().splitlines()
    assert [names[int(row.split()[0])] for row in rows] == [name for name, _ in found]


def test_a_class_of_the_model_that_holds_a_sign_of_equality_is_a_name(folder, stand_in):
    predictor = Predictor.from_pretrained()
    predictor.class_names = ("a=b", "dot")
    arguments = [folder / "images" / "one.png", "--json", "--classes"]
    assert objects_of(predict(*arguments, "a=b")) == [("a=b", 0)] * 2
    assert objects_of(predict(*arguments, "a=b=c")) == [("c", 0)] * 2
    assert objects_of(predict(*arguments, "a=b,dot=x")) == [("a=b", 0), ("a=b", 0), ("x", 1)]


def test_classes_and_no_images(folder, stand_in):
    result = predict(
        folder / "images" / "one.png", "--classes", "dot", "--output", folder / "out", "--no-images", "--json"
    )
    assert [item["name"] for item in json.loads(result.stdout)[0]["objects"]] == ["dot"]
    assert {path.name for path in (folder / "out").iterdir()} == {"detections.coco.json", "detections.csv"}


def test_nothing_is_written_without_an_output_folder(folder, stand_in):
    before = sorted(folder.rglob("*"))
    assert predict(folder / "images").exit_code == 0
    assert sorted(folder.rglob("*")) == before


def test_exit_code_1_when_no_image_could_be_read(folder, stand_in):
    result = predict(folder / "images" / "broken.jpg", "--json")
    assert result.exit_code == 1
    assert "error" in json.loads(result.stdout)[0]


@pytest.fixture
def many(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(6):
        Image.new("RGB", (32, 32), (number, 90, 90)).save(tmp_path / "many" / f"{number}.png")
    return tmp_path / "many"


def stop_at(call, action, monkeypatch):
    """Do `action` when the stand-in is asked for the `call`-th time."""
    calls, infer = iter(range(1, 100)), TwoCellsAndADot.infer

    def interrupted(self, *batch):
        if next(calls) == call:
            action()
        return infer(self, *batch)

    monkeypatch.setattr(TwoCellsAndADot, "infer", interrupted)


def kept_files(out):
    """Images that each result file of an interrupted run holds, in full."""
    coco = {entry["file_name"] for entry in json.loads((out / "detections.coco.json").read_text())}
    rows = {row["path"] for row in csv.DictReader((out / "detections.csv").open())}
    lines = {json.loads(line)["path"] for line in (out / "detections.jsonl").read_text().splitlines()}
    assert coco == rows == lines
    assert not list(out.glob(".*"))
    return len(coco), len(list(out.glob("*.jpg")))


def ctrl_c():
    raise KeyboardInterrupt


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


@pytest.mark.parametrize(
    "paths",
    [
        ["x/a.png", "y/a.png", "y/a-2.png"],
        ["x/a-2.png", "x/a.png", "y/a.png", "y/a-3.png"],
        ["x/A.png", "y/a.png"],
        ["x/a.png", "x/a.jpg", "x/a.bmp"],
        ["x/a.png", "y/a.heatmap.png"],
        ["x/a.png", "x/a?.png", "x/a_.png", "x/con .png", "x/ .png"],
        ["x/" + "n" * 240 + ".png", "y/" + "n" * 240 + ".png", "x/" + "猫" * 80 + ".png"],
    ],
)
def test_every_picture_is_drawn_to_a_file_of_its_own(tmp_path, stand_in, paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), "red").save(tmp_path / path)
    assert predict(*[tmp_path / path for path in paths], "--output", tmp_path / "out").exit_code == 0
    drawn = [path.name for path in (tmp_path / "out").glob("*.jpg")]
    assert len(drawn) == len(paths) == len({name.casefold() for name in drawn})


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


def test_names_that_are_not_utf8_are_read_drawn_and_written(tmp_path, stand_in):
    (tmp_path / "in").mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Image.new("RGB", (32, 32)).save(tmp_path / "in" / "a.png")
        os.rename(tmp_path / "in" / "a.png", tmp_path / "in" / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    out = tmp_path / "out"
    result = predict(tmp_path / "in", "--output", out, "--format", "csv,json,coco")
    assert result.exit_code == 0 and kept_files(out) == (1, 1)
    assert json.loads((out / "detections.jsonl").read_text())["path"].endswith("caf\\xe9.png")


def test_a_link_in_the_output_folder_is_replaced_and_not_written_through(folder, stand_in):
    source, out = folder / "images" / "one.png", folder / "out"
    out.mkdir()
    (out / "one.jpg").symlink_to(source)
    before = source.read_bytes()
    assert predict(source, "--output", out).exit_code == 0
    assert source.read_bytes() == before and not (out / "one.jpg").is_symlink()


def test_pictures_above_the_limit_are_passed_over_and_the_message_says_how_to_allow_them(
    tmp_path, stand_in, caplog
):
    Image.new("1", (1500, 1000)).save(tmp_path / "big.png")
    assert predict(tmp_path / "big.png", "--max-megapixels", "1").exit_code == 1
    assert "1500x1000" in caplog.text and "--max-megapixels 2" in caplog.text
    assert predict(tmp_path / "big.png", "--max-megapixels", "2").exit_code == 0


def test_the_home_folder_by_its_sign(folder, stand_in, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert predict("~/images/one.png", "--output", "~/out").exit_code == 0
    assert (folder / "out" / "one.jpg").is_file()


def test_deploy_gives_the_same_objects(folder, tiny_model, monkeypatch):
    from focus_detr.deploy import deploy

    made, deployed = [], deploy.deploy
    monkeypatch.setattr(
        deploy, "deploy", lambda model, **options: made.append(1) or deployed(model, **options)
    )
    arguments = [str(tiny_model), str(folder / "images" / "one.png"), "--threshold", "0", "--json"]
    found = []
    for extra, times in ([], 0), (["--deploy"], 1):
        result = CliRunner().invoke(app, ["predict", *arguments, "--device", "cpu", *extra])
        found.append(json.loads(result.stdout)[0]["objects"])
        assert len(made) == times
    for one, other in zip(*found, strict=True):
        assert one["label"] == other["label"] and abs(one["score"] - other["score"]) < 1e-4


def test_a_heatmap_shows_where_a_real_model_looked(folder, tiny_model):
    arguments = [
        "--output",
        folder / "out",
        "--heatmap",
        "--no-images",
        "--format",
        "json",
        "--device",
        "cpu",
    ]
    picture = folder / "images" / "one.png"
    result = CliRunner().invoke(app, ["predict", str(tiny_model), str(picture), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "out").iterdir()} == {"one.heatmap.jpg", "detections.jsonl"}
    assert len(Image.open(folder / "out" / "one.heatmap.jpg").getcolors(2**24)) > 100


def test_a_budget_that_the_model_cannot_keep_is_refused(folder, stand_in):
    with pytest.raises(FocusDetrError, match="budget=0.5: this model works on what it was made for"):
        predict(folder / "images", "--budget", "0.5")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--classes", ","], "classes: none given; leave it out for all, or name some of cell, dot"),
        (["--format", ","], "--format ',': names none; use any of coco,csv,json,yolo,voc,crops"),
    ],
)
def test_lists_that_name_nothing_are_refused(folder, stand_in, options, said):
    with pytest.raises(FocusDetrError, match=said):
        predict(folder / "images", "--output", folder / "out", *options)
    assert not (folder / "out").exists()


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


def test_tiles_are_cut_and_merged(folder, stand_in):
    Image.new("RGB", (400, 300), "white").save(folder / "large.png")
    result = predict(folder / "large.png", "--tile", "100", "--overlap", "0.2", "--json")
    (found,) = json.loads(result.stdout)
    # A stand-in that finds the same in every tile: a dot in each of 5 x 4, 3 x 2 and the whole picture.
    assert sum(item["name"] == "dot" for item in found["objects"]) == 20 + 6 + 1
    assert max(item["box_xyxy"][2] for item in found["objects"]) == 400


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tile", "ten"], "tile='ten'"),
        (["--overlap", "0.2"], "give tile=1024"),
        (["--tile", "64", "--overlap", "1"], "overlap=1.0"),
        (["--tile", "64", "--heatmap", "--output", "out"], "leave out --tile"),
    ],
)
def test_an_unusable_tile_is_refused_before_the_model_is_loaded(folder, options, problem):
    with pytest.raises(FocusDetrError, match=problem):
        predict(folder / "images", *options)


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


@pytest.mark.parametrize("options, goes_on", [((), True), (("--track",), False)])
def test_a_run_cut_off_says_that_it_can_go_on_where_it_can(many, stand_in, monkeypatch, options, goes_on):
    if options:
        pytest.importorskip("trackers")
    stop_at(2, ctrl_c, monkeypatch)
    result = predict(many, "--output", many.parent / "out", "--no-images", "--batch-size", "1", *options)
    assert ("--resume goes on" in result.stderr) is goes_on


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

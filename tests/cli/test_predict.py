"""focus-detr predict, with a stand-in for the model: pictures, files, counts, bad images, exit codes."""

import csv
import json
import os

import pytest
from PIL import Image
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from helpers.predicting import kept_files, predict


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


def test_nothing_is_written_without_an_output_folder(folder, stand_in):
    before = sorted(folder.rglob("*"))
    assert predict(folder / "images").exit_code == 0
    assert sorted(folder.rglob("*")) == before


def test_exit_code_1_when_no_image_could_be_read(folder, stand_in):
    result = predict(folder / "images" / "broken.jpg", "--json")
    assert result.exit_code == 1
    assert "error" in json.loads(result.stdout)[0]


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

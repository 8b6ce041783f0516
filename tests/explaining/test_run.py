"""The files that explaining writes, from Python and from the command line."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from focus_detr import FocusDetr
from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from focus_detr.explaining import explain
from helpers.explained import small_predictor
from helpers.tiny_datasets import coco_content, write_coco, write_image, write_voc, write_yolo


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / "picture.png", 120, 90)


def test_a_picture_becomes_a_page_pictures_and_numbers(tiny_model, image, tmp_path):
    result = run("explain", tiny_model, image, "--output", tmp_path / "out", "--budget", 0.1, "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert [each["own"] for each in values["budgets"]].count(True) == 1 and len(values["budgets"]) == 2
    assert values["image"] == "picture.png" and values["budgets"][0]["kept"]
    assert json.loads((tmp_path / "out" / "explanation.json").read_text()) == values
    assert (tmp_path / "out" / "explanation.html").read_text().startswith("<!doctype html>")
    assert Image.open(tmp_path / "out" / "explanation.jpg").width == 1800
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "explanation.html", "explanation.jpg", "explanation.json",
    ]  # fmt: skip


def test_people_get_a_table(tiny_model, image, tmp_path):
    result = run("explain", tiny_model, image, "--output", tmp_path / "out", "--budget", 0.1)
    assert result.stdout.splitlines()[2].split() == ["budget", "time", "objects", "lost", "layer", "1"]
    assert any(line.startswith("0.10") for line in result.stdout.splitlines())


@pytest.mark.parametrize("write", [write_yolo, write_voc])
def test_a_data_set_becomes_a_page_a_table_and_pictures(write, tmp_path):
    found = explain(
        small_predictor(), write(tmp_path / "data"), tmp_path / "out", split="val", budgets=[0.05, 1.0]
    )
    names = {file.name for file in (tmp_path / "out").iterdir()}
    expected = {"explanation.html", "explanation.json", "explanation.txt", "recall.png"}
    assert names == (expected | {"lost.jpg"} if found.first_lost(1) else expected)
    values = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert values["split"] == "val" and values["objects"]["all"] == len(found.objects)
    assert (tmp_path / "out" / "explanation.txt").read_text() == found.summary() + "\n"


def test_the_command_takes_a_data_set(tiny_model, tmp_path):
    content = coco_content()
    content["categories"] = [{"id": 7, "name": "cell"}, {"id": 3, "name": "dot"}]
    write_coco(tmp_path / "data" / "val" / "_annotations.coco.json", tmp_path / "data" / "val", content)
    result = run("explain", tiny_model, tmp_path / "data", "--output", tmp_path / "out", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["objects"]["cell"] == 3 and values["objects"]["dot"] == 2
    assert len(values["first_layer"]["by_class"]["cell"]) == len(values["budgets"])


def test_an_earlier_run_leaves_no_objects_behind(tmp_path):
    data = write_yolo(tmp_path / "data")
    out = tmp_path / "out"
    out.mkdir()
    (out / "lost.jpg").write_bytes(b"of another data set")
    explain(small_predictor(), data, out, budgets=[1.0])
    assert not (out / "lost.jpg").exists() or Image.open(out / "lost.jpg").width > 100


def test_a_source_is_not_written_over(tmp_path):
    image = write_image(tmp_path / "explanation.jpg", 120, 90)
    before = image.read_bytes()
    with pytest.raises(FocusDetrError, match="would be written over"):
        explain(small_predictor(), image, tmp_path)
    assert image.read_bytes() == before


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(FocusDetrError, match=r"broken\.png"):
        explain(small_predictor(), tmp_path / "broken.png", tmp_path / "out")
    with pytest.raises(FocusDetrError, match=r"missing\.png"):
        explain(small_predictor(), tmp_path / "missing.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_for_patterns_is_a_name(tmp_path):
    image = write_image(tmp_path / "cell[1].png", 120, 90)
    assert explain(small_predictor(), image, budgets=[1.0]).name == "cell[1].png"


def test_of_an_animation_the_first_frame_is_explained(tmp_path):
    frames = [Image.new("RGB", (120, 90), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = explain(small_predictor(), tmp_path / "a.gif", budgets=[1.0])
    assert found.name == "a.gif" and found.image.getpixel((5, 5))[0] > 200


def test_the_facade_explains(tiny_model, image):
    found = FocusDetr(tiny_model, device="cpu").explain(image, budgets=[0.5])
    assert found.name == "picture.png" and found.class_names == ("cell", "dot")

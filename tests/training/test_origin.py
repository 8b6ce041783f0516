"""A run goes on with what it was started with: its model and its data."""

import json
import shutil
from pathlib import Path

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.training import train
from focus_detr.training.setup import choose_model
from helpers.tiny_training import finish, losses, start, tiny_detector, write_dataset


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with data and a run that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    write_dataset(folder / "data")
    finish(start(folder / "data", folder / "run", die_at=5), killed=True)
    return folder


def change(data: Path, split: str, what) -> None:
    file = data / split / "_annotations.coco.json"
    content = json.loads(file.read_text())
    what(content)
    file.write_text(json.dumps(content))


def drop_an_image(content):
    gone = content["images"].pop()["id"]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != gone]


def move_a_box(content):
    content["annotations"][0]["bbox"][0] += 1


def relabel(content):
    content["annotations"][0]["category_id"] = 3 - content["annotations"][0]["category_id"]


@pytest.mark.parametrize(
    ("split", "what"),
    [("train", drop_an_image), ("train", move_a_box), ("train", relabel), ("val", drop_an_image)],
)
def test_other_data_are_refused(split, what, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "copy")
    change(folder / "data", split, what)
    kind = "training" if split == "train" else "evaluation"
    with pytest.raises(FocusDetrError, match=f"other data: its {kind} data were .* images with .* objects"):
        train(folder / "data", model=tiny_detector(), output=folder / "run", resume=True, device="cpu")


@pytest.mark.slow
def test_data_that_moved_are_the_same(killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "copy")
    (folder / "data").rename(folder / "elsewhere")
    finish(start(folder / "elsewhere", folder / "run", resume=True))
    finish(start(killed / "data", tmp_path / "undisturbed"))
    assert losses(folder / "run") == losses(tmp_path / "undisturbed")


def test_a_resumed_run_has_its_own_model(tmp_path):
    (tmp_path / "run.yaml").write_text("model: blood-cells\n")
    assert choose_model(None, tmp_path, resume=True) == "blood-cells"
    assert choose_model("blood-cells", tmp_path, resume=True) == "blood-cells"
    assert choose_model(None, tmp_path, resume=False) == "everyday"
    with pytest.raises(FocusDetrError, match="started from blood-cells, not from focus-detr-nano"):
        choose_model("focus-detr-nano", tmp_path, resume=True)

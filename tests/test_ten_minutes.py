"""The commands of the page on training on one's own data do what it says, one after the other."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.training import fitting, time_budget

PAGE = Path(__file__).parents[1] / "docs" / "ten-minutes.md"
TIME = "90s"
SMALL = {
    **{"batch_size": 1, "shortest_edge": 64, "longest_edge": 64},
    **{"workers": 0, "threads": 1, "augmentation": "none"},
}


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def shortened(command: list[str]) -> list[str]:
    """The command, on small pictures and with less time."""
    program, verb, *rest = command
    assert program == "focus-detr"
    if verb == "train":
        rest[rest.index("--time") + 1] = TIME
        rest += [f"--set={key}={value}" for key, value in SMALL.items()]
    if verb == "predict":
        rest += ["--threshold", "0.01"]  # so little has learned little
    if verb == "calibrate":
        rest += ["--budget", "0.2"]
    return [verb, *rest]


def draw(folder: Path, count: int, seed: int) -> list[list[int]]:
    """Pictures with a bright square each, and their boxes (left, top, width, height)."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    boxes = []
    for number in range(count):
        picture = Image.new("RGB", (96, 64), "navy")
        left, top, side = (int(chance.integers(*limits)) for limits in ((0, 60), (0, 30), (16, 32)))
        ImageDraw.Draw(picture).rectangle((left, top, left + side, top + side), fill="orange")
        picture.save(folder / f"{number}.png")
        boxes.append([left, top, side, side])
    return boxes


@pytest.fixture
def mydata(tmp_path: Path) -> Path:
    """A data set of squares with the splits train and val, and photos without labels beside it."""
    for seed, (split, count) in enumerate({"train": 24, "val": 4}.items()):
        folder = tmp_path / "mydata" / split
        boxes = draw(folder, count, seed)
        images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 64} for i in range(count)]
        objects = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, box in enumerate(boxes)
        ]
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "square"}]}
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    draw(tmp_path / "photos", 24, seed=2)
    return tmp_path / "mydata"


class Clock:
    """A second passes whenever it is looked at: how long a training is does not hang on the machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.slow
def test_the_commands_of_the_page_lead_to_a_model(
    mydata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fitting, "perf_counter", Clock())
    monkeypatch.setattr(time_budget, "_FEWEST_STEPS", 10)
    for command in commands():
        done = CliRunner().invoke(app, shortened(command), catch_exceptions=False)
        assert done.exit_code == 0, (command, done.output)
    assert (tmp_path / "runs" / "corrected" / "best" / "model.safetensors").is_file()
    found = json.loads((tmp_path / "outputs" / "exported" / "detections.coco.json").read_text())
    assert found


def test_the_page_has_each_step() -> None:
    assert [command[1] for command in commands()] == [
        "check", "train", "predict", "evaluate", "calibrate", "export", "predict", "predict", "train",
    ]  # fmt: skip

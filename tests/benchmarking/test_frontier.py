"""The frontier: what no other point beats in accuracy and time, and the settings that come of it."""

import csv
from types import SimpleNamespace

import pytest
from PIL import Image

from focus_detr import FocusDetr
from focus_detr.benchmarking import frontiers
from focus_detr.benchmarking.frontiers import frontier
from focus_detr.benchmarking.timing import Timing
from focus_detr.data import DetectionDataset
from focus_detr.errors import FocusDetrError
from helpers.scenes import scene

# AP and seconds of each scale and budget of a model with one decoder layer.
POINTS = {
    (0.5, 0.2): (0.50, 0.010),
    (0.5, 1.0): (0.45, 0.020),
    (1.0, 0.2): (0.598, 0.030),
    (1.0, 1.0): (0.60, 0.040),
}


class Dataset(DetectionDataset):
    """A data set that nothing is read of but a picture."""

    def __init__(self):
        pass

    def __getitem__(self, index):
        return SimpleNamespace(image=Image.new("RGB", (96, 64)))


@pytest.fixture
def predictor(tiny_model, monkeypatch):
    from focus_detr.evaluation import run

    truth, _ = scene(0, images=12, crowds=False)
    found = [
        {**{key: each[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
        for each in truth["annotations"]
    ]
    size = FocusDetr(tiny_model, device="cpu").predictor.processor.size["shortest_edge"]

    def place(predictor):
        scale = predictor.processor.size["shortest_edge"] / size
        return POINTS[scale, predictor.setting.budget]

    def evaluate(predictor, data, **options):
        ap, _ = place(predictor)
        kept = [each for place, each in enumerate(found) if place % 10 < 10 * ap]
        return SimpleNamespace(
            metrics=SimpleNamespace(summary={"AP": ap}), ground_truth=truth, predictions=kept
        )

    def take_turns(works, runs, **options):
        order = list(POINTS.values())
        return {name: Timing((order[int(name)][1],), (0.0,)) for name in works}

    monkeypatch.setattr(run, "evaluate", evaluate)
    monkeypatch.setattr(frontiers, "take_turns", take_turns)
    return FocusDetr(tiny_model, device="cpu").predictor


def explored(predictor, **options):
    return frontier(predictor, Dataset(), scales=[1.0, 0.5], budgets=[1.0, 0.2], draws=100, **options)


def test_points_that_another_beats_in_both_are_not_on_it(predictor):
    found = explored(predictor)
    assert [(point.scale, point.setting.budget) for point in found.points if point.best] == [
        (0.5, 0.2), (1.0, 0.2), (1.0, 1.0),
    ]  # fmt: skip
    assert [point.milliseconds for point in found.points] == pytest.approx([10, 20, 30, 40])
    last = found.points[-1]
    assert last.difference == 0 and found.points[0].difference < 0 and found.points[1].difference is None
    assert found.images == 12 and "3 of 4 points" in found.summary()


def test_settings_are_the_best_point_and_the_fastest_that_lose_little(predictor):
    settings = explored(predictor, max_drop=0.003).settings
    assert {name: (each.budget, each.ap) for name, each in settings.items()} == {
        "best": (1.0, 0.6), "balanced": (0.2, 0.598), "fast": (0.2, 0.598),
    }  # fmt: skip
    assert explored(predictor, max_drop=0.01).settings["fast"].ap == 0.5


def test_table_and_picture_hold_every_point(predictor, tmp_path):
    explored(predictor).save(tmp_path)
    with (tmp_path / "frontier.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == ["", "", "balanced fast", "best"]
    assert rows[0]["AP"] == "0.5" and rows[0]["cpu"] and rows[1]["low"] == ""
    assert Image.open(tmp_path / "frontier.png").width > 400


def test_what_the_model_cannot_do_is_refused_before_anything_is_measured(predictor, monkeypatch):
    monkeypatch.setattr(frontiers, "take_turns", None)
    for options, message in (
        ({"scales": [0.0]}, "scale=0.0: must lie in"),
        ({"budgets": [2]}, "budget=2"),
        ({"decoder_layers": [5]}, "decoder_layers=5"),
        ({"max_drop": 1.0}, "max_drop=1.0"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            frontier(predictor, Dataset(), **options)
    with pytest.raises(FocusDetrError, match="an exported file has its settings fixed"):
        frontier(SimpleNamespace(model=object()), Dataset())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frontier", "--auto"], "--auto, --frontier: are two questions"),
        (["--scale", "0.5"], "--scale: is of the frontier; add --frontier"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(tmp_path, arguments, message):
    from typer.testing import CliRunner

    from focus_detr.cli import app

    with pytest.raises(FocusDetrError, match=message):
        CliRunner().invoke(app, ["calibrate", "any", str(tmp_path), *arguments], catch_exceptions=False)

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import calibration
from focus_detr.evaluation.calibration import calibrate
from helpers.scenes import scene


class Report:
    def __init__(self, lost):
        # At each budget a share of the objects is found, all of them at 1.
        truth, _ = scene(0, images=30, crowds=False)
        objects = truth["annotations"]
        self.metrics = SimpleNamespace(summary={"AP": 1 - lost})
        step = int(1 / lost) if lost else len(objects) + 1
        self.ground_truth = truth
        self.predictions = [
            {**{key: item[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
            for number, item in enumerate(objects)
            if number % step
        ]


class Stub:
    """A predictor that takes budgets."""

    def accept_budget(self, budget):
        return budget


def lossy(monkeypatch, lost):
    asked = []

    def evaluate(predictor, data, *, budget, **options):
        asked.append(budget)
        return Report(lost(budget))

    monkeypatch.setattr(calibration, "evaluate", evaluate)
    return asked


def losses(budget):
    return {0.1: 0.5, 0.2: 0.2, 0.3: 0.02, 0.5: 0.01, 1.0: 0.0}[budget]


@pytest.mark.parametrize(("max_drop", "expected"), [(0.0, 1.0), (0.1, 0.3), (0.3, 0.2), (0.9, 0.1)])
def test_the_smallest_budget_that_loses_no_more_is_taken(monkeypatch, max_drop, expected):
    asked = lossy(monkeypatch, losses)
    found = calibrate(Stub(), "data", max_drop=max_drop, budgets=[0.3, 0.1, 0.2, 0.5, 0.3], draws=100)
    assert found.budget == expected and sorted(asked) == [0.1, 0.2, 0.3, 0.5, 1.0]
    assert [row.budget for row in found.rows] == [0.1, 0.2, 0.3, 0.5, 1.0]
    assert found.rows[-1].difference == 0 and found.rows[0].low < found.rows[0].difference < 0


def test_a_budget_below_one_that_loses_more_is_not_taken_by_luck(monkeypatch):
    lossy(monkeypatch, lambda budget: 0.5 if budget == 0.5 else 0.0)
    assert calibrate(Stub(), "data", budgets=[0.1, 0.5], draws=100).budget == 1.0


def test_a_model_trained_for_its_own_budget_is_compared_with_that(monkeypatch):
    lossy(monkeypatch, lambda budget: {0.1: 0.5, 0.2: 0.02, 0.3: 0.0, 1.0: 0.5}[budget])
    found = calibrate(Stub(), "data", max_drop=0.1, budgets=[0.1, 0.2, 0.3], draws=100)
    assert (found.budget, found.best) == (0.2, 0.3) and found.rows[-1].high < -0.1


def test_too_few_pictures_are_said_to_be_too_few(monkeypatch, tmp_path):
    lossy(monkeypatch, losses)
    found = calibrate(Stub(), "data", max_drop=0.08, budgets=[0.3], draws=100)
    assert found.budget == 0.3 and found.rows[0].low < found.rows[0].difference
    found.save(tmp_path)
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert written["budget"] == 0.3 and [row["budget"] for row in written["rows"]] == [0.3, 1.0]
    assert Image.open(tmp_path / "calibration.png").width > 400
    tight = calibrate(Stub(), "data", max_drop=-found.rows[0].difference, budgets=[0.3], draws=100)
    assert "cannot tell" in tight.summary() and "Budget 0.3" in tight.summary()


def test_what_cannot_be_used_is_refused(monkeypatch):
    lossy(monkeypatch, losses)
    with pytest.raises(FocusDetrError, match="max_drop=3"):
        calibrate(Stub(), "data", max_drop=3)
    with pytest.raises(FocusDetrError, match="budget=0.01"):
        calibrate(Stub(), "data", budgets=[0.01])

"""The page of budgets: counts, examples, and ranges where there are many."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from focus_detr.inference import Detections
from focus_detr.pictures.budgets import EXAMPLES, BudgetPage, _bars
from focus_detr.structures.instances import Instances


def detections(budget, color="red"):
    none = Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    found = Detections("a.png", none, ("x",), (400, 600), image=Image.new("RGB", (600, 400), color))
    return replace(found, budget=budget)


def test_pictures_are_counted_by_their_budget_and_a_few_are_shown():
    page = BudgetPage()
    for budget in [0.1] * 5 + [0.3, None]:
        page.add(detections(budget))
    assert dict(page.counts) == {0.1: 5, 0.3: 1}
    bars = _bars(page.counts, page.examples)
    assert [(name, count, len(shown)) for name, count, shown in bars] == [("0.1", 5, EXAMPLES), ("0.3", 1, 1)]
    assert max(bars[0][2][0].size) < 600  # thousands of pictures need not be kept
    stream = io.BytesIO()
    page.save(stream)
    colors = {color for _, color in Image.open(stream).convert("RGB").getcolors(2**24)}
    assert (255, 0, 0) in colors


def test_many_budgets_are_counted_in_ranges():
    page = BudgetPage()
    for number in range(40):
        page.add(detections(round(0.1 + number / 100, 2)))
    bars = _bars(page.counts, page.examples)
    assert len(bars) == 8 and sum(count for _, count, _ in bars) == 40
    assert bars[0][0] == "0.1 to 0.14" and bars[-1][0].endswith("0.49")

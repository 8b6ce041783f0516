"""Objects too small for tokens at a size, and what a budget could keep of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from focus_detr.data.doctor import Subject, examine
from focus_detr.doctor.tokens import token_findings
from helpers.doctor_data import Healthy


def _subject(folder: Path, box: list[float]) -> Subject:
    data = Healthy(folder, {"train": 2})
    data.splits["train"]["annotations"][0]["bbox"] = box
    return examine(data.write()).subject


def test_objects_that_hold_no_token_or_one_are_found_with_crops(tmp_path: Path) -> None:
    # At 90 x 120 centres are at 4, 12, 20 ... (stride 8), 7.5, 22.5 ... (16), 15, 45 ... (32).
    none, _ = token_findings(_subject(tmp_path / "a", [13, 13, 1.5, 1.5]), (90, 120))
    one, _ = token_findings(_subject(tmp_path / "b", [11, 11, 2, 2]), (90, 120))
    assert [each.kind for each in none] == ["objects-without-tokens"]
    assert [each.kind for each in one] == ["tiny-objects"]
    assert "1 of 8 objects" in none[0].message and none[0].severity == "warning"
    assert none[0].examples[0].box_xyxy == (13, 13, 14.5, 14.5)
    larger, _ = token_findings(_subject(tmp_path / "c", [13, 13, 1.5, 1.5]), (900, 1200))
    assert larger == []


def test_pictures_are_fitted_into_the_size_in_their_shape(tmp_path: Path) -> None:
    subject = _subject(tmp_path, [13, 13, 1.5, 1.5])
    fitted, _ = token_findings(subject, (90, 120))
    within, _ = token_findings(subject, (90, 5000))
    assert [each.message for each in fitted] == [each.message.replace("90x5000", "90x120") for each in within]


def test_expected_recall_rises_with_budget_and_size_and_ends_at_all_that_can_be_kept(tmp_path: Path) -> None:
    _, facts = token_findings(_subject(tmp_path, [13, 13, 1.5, 1.5]), (90, 120))
    of_all = facts["splits"]["train"]["all"]
    assert of_all["objects"] == 8 and of_all["without_a_token"] == 1
    recall = of_all["expected_recall"]
    assert recall == sorted(recall) and recall[0] < 0.95
    assert recall[-1] == pytest.approx(7 / 8, abs=1e-4)
    small = facts["splits"]["train"]["small"]["expected_recall"]
    assert len(small) == len(facts["budgets"]) == len(recall)


def test_with_room_for_all_tokens_of_objects_no_object_is_missed(tmp_path: Path) -> None:
    data = Healthy(tmp_path, {"train": 1})
    data.splits["train"]["annotations"] = [data.splits["train"]["annotations"][0]]
    _, facts = token_findings(examine(data.write()).subject, (90, 120))
    # 20 x 20 of 120 x 90 pixels: a thirtieth, under the least budget.
    assert facts["splits"]["train"]["all"]["expected_recall"] == [1.0] * len(facts["budgets"])

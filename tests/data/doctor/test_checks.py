"""Each kind of finding is there in a data set with that fault, and in none without."""

from __future__ import annotations

from pathlib import Path

import pytest

from focus_detr.data.doctor import examine
from focus_detr.errors import FocusDetrError
from helpers.doctor_data import Healthy
from helpers.doctor_faults import FAULTS, resaved


def test_nothing_is_found_in_a_healthy_data_set(tmp_path: Path) -> None:
    found = examine(Healthy(tmp_path).write())
    assert found.findings == [] and list(found.datasets) == ["train", "val"]
    assert "Nothing wrong was found" in found.text()


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_found_with_file_fix_and_severity(kind: str, tmp_path: Path) -> None:
    severity, spoil = FAULTS[kind]
    spoil(Healthy(tmp_path))
    found = examine(tmp_path)
    of_kind = [each for each in found.findings if each.kind == kind]
    assert of_kind, [each.kind for each in found.findings]
    assert of_kind[0].severity == severity
    assert of_kind[0].file and of_kind[0].message and of_kind[0].fix
    assert kind in found.text() and str(tmp_path) in found.text()
    assert kind in {each["kind"] for each in found.to_dict()["findings"]}
    for example in (each for finding in of_kind for each in finding.examples):
        assert example.path.is_file()


def test_the_gravest_come_first(tmp_path: Path) -> None:
    data = Healthy(tmp_path)
    FAULTS["few-objects"][1](data)
    FAULTS["picture-in-two-splits"][1](data)
    path = data.picture("val", 0)
    path.write_bytes(path.read_bytes()[:-200])
    severities = [each.severity for each in examine(tmp_path).findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert set(severities) == {"error", "warning", "note"}


def test_a_leak_is_counted_once_a_picture_and_says_both_splits(tmp_path: Path) -> None:
    data = Healthy(tmp_path)
    data.write()
    for index in (1, 2):
        resaved(data.picture("train", 0), data.picture("train", index), 60 + index)
    resaved(data.picture("train", 0), data.picture("val", 3))
    (leak,) = [each for each in examine(tmp_path).findings if each.kind == "alike-in-two-splits"]
    assert leak.message.startswith("1 picture looks like one of the split 'train'")
    assert leak.split == "val" and leak.file.endswith("val3.png")


def test_a_split_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    root = Healthy(tmp_path).write()
    (root / "instances_val.json").write_text("{")
    found = examine(root)
    assert list(found.datasets) == ["train"] and list(found.refused) == ["val"]
    assert "instances_val.json" in found.text()
    (root / "instances_train.json").write_text("{")
    with pytest.raises(FocusDetrError, match="not valid json"):
        examine(root)

"""focus-detr doctor and focus-detr data: exit codes, JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.data import list_splits
from focus_detr.errors import FocusDetrError
from helpers.doctor_data import Healthy
from helpers.doctor_faults import FAULTS


def run(*arguments: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("fault", "plain", "strict"),
    [(None, 0, 0), ("near-duplicates", 0, 0), ("nearly-doubled-box", 0, 1), ("empty-box", 1, 1)],
)
def test_errors_give_1_and_warnings_do_where_told_to(
    fault: str | None, plain: int, strict: int, tmp_path: Path
) -> None:
    FAULTS[fault][1](Healthy(tmp_path)) if fault else Healthy(tmp_path).write()
    result = run("doctor", tmp_path, "--json")
    assert result.exit_code == plain
    assert run("doctor", tmp_path, "--strict").exit_code == strict
    found = json.loads(result.stdout)
    assert {each["kind"] for each in found["findings"]} == ({fault} if fault else set())
    assert [each["images"] for each in found["splits"]] == [6, 5]


def test_a_split_that_cannot_be_read_ends_with_its_error_after_the_rest(tmp_path: Path) -> None:
    root = Healthy(tmp_path).write()
    (root / "instances_val.json").write_text("{")
    with pytest.raises(FocusDetrError, match="not valid json"):  # which main() makes exit code 2
        run("doctor", root)
    result = CliRunner().invoke(app, ["doctor", str(root), "--json"])
    assert json.loads(result.stdout)["refused"].keys() == {"val"}


def test_a_cleaned_copy_passes(tmp_path: Path) -> None:
    FAULTS["empty-box"][1](Healthy(tmp_path / "data"))
    result = run("doctor", tmp_path / "data", "--fix", tmp_path / "copy", "--json")
    assert result.exit_code == 1  # what was found is what the original has
    assert "without width" in json.loads(result.stdout)["fixed"]["left_out"][0]
    assert run("doctor", tmp_path / "copy", "--strict").exit_code == 0
    with pytest.raises(FocusDetrError, match="--fix .* holds files"):
        run("doctor", tmp_path / "data", "--fix", tmp_path / "copy")


def test_a_report_is_written_and_its_place_is_checked_first(tmp_path: Path) -> None:
    root = Healthy(tmp_path / "data").write()
    report = tmp_path / "reports" / "data.html"
    result = run("doctor", root, "--report", report, "--size", "90x120", "--json")
    assert "<details" not in report.read_text() and "Nothing wrong" in report.read_text()
    assert json.loads(result.stdout)["tokens"]["splits"].keys() == {"train", "val"}
    with pytest.raises(FocusDetrError, match=r"ends in \.html"):
        run("doctor", root, "--report", tmp_path / "reports")
    with pytest.raises(FocusDetrError, match="HEIGHTxWIDTH"):
        run("doctor", root, "--size", "big")
    with pytest.raises(FocusDetrError, match="no-such-model"):
        run("doctor", root, "--model", "no-such-model")


def test_without_data_the_environment_is_examined(tmp_path: Path) -> None:
    result = run("doctor", "--json")
    found = json.loads(result.stdout)
    assert found["environment"]["torch"] and found["environment"]["msda"]
    assert all(each["fix"] and each["severity"] in ("note", "warning", "error") for each in found["findings"])
    assert "torch: " in run("doctor").stdout
    with pytest.raises(FocusDetrError, match="--fix is of a data set"):
        run("doctor", "--fix", tmp_path / "copy")


def test_data_is_divided_converted_and_merged(tmp_path: Path) -> None:
    root = Healthy(tmp_path / "data").write()
    split = run(
        "data", "split", root, "--split", "train", "--output", tmp_path / "a", "--val", "0.34", "--json"
    )
    assert json.loads(split.stdout)["pictures"] == {"train": 4, "val": 2}
    assert (
        "train: 6 pictures, 24 objects"
        in run("data", "convert", root, "--to", "voc", "--output", tmp_path / "b").stdout
    )
    merged = run("data", "merge", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "c", "--to", "yolo")
    assert "train: 10 pictures" in merged.stdout and "renamed: " in merged.stdout
    assert list_splits(tmp_path / "c") == ["train", "val"]


def test_shards_are_written_and_are_data_like_others(tmp_path: Path) -> None:
    root = Healthy(tmp_path / "data").write()
    shards = tmp_path / "shards"
    packed = run("data", "convert", root, "--to", "shards", "--shard-images", "4", "--output", shards)
    assert "train: 6 pictures, 24 objects" in packed.stdout
    names = {"CHANGES.txt", "categories.json", "train-000000.tar", "train-000001.tar"}
    assert {each.name for each in shards.iterdir()} == names | {"val-000000.tar", "val-000001.tar"}
    assert "24 objects" in run("data", "convert", shards, "--to", "coco", "--output", tmp_path / "b").stdout
    divided = ["--split", "train", "--val", "0.34", "--output", tmp_path / "c"]
    assert "val: 2 pictures" in run("data", "split", shards, *divided).stdout
    assert run("doctor", shards, "--fix", tmp_path / "d").exit_code == 0
    assert list_splits(tmp_path / "c") == list_splits(tmp_path / "d") == ["train", "val"]
    with pytest.raises(FocusDetrError, match="goes with shards alone"):
        run("data", "convert", root, "--to", "voc", "--shard-images", "4", "--output", tmp_path / "e")

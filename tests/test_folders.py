"""Paths as people write them, in Python and on the command line."""

from pathlib import Path

import pytest

from focus_detr.data import list_splits, load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.folders import from_home, writable_folder
from helpers.tiny_datasets import write_coco


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_at_the_beginning_is_the_home_folder(home):
    assert from_home("~/runs") == f"{home}/runs" and from_home(Path("~/runs")) == home / "runs"
    assert from_home(Path("a~b")) == Path("a~b") and from_home(None) is None
    assert from_home("~no-such-user/runs") == "~no-such-user/runs"
    assert writable_folder("~/runs") == home / "runs"


def test_data_sets_are_found_in_the_home_folder(home):
    write_coco(home / "data" / "instances_train.json", home / "data" / "train")
    assert list_splits("~/data") == ["train"] and len(load_dataset("~/data")) == 3


def test_exports_and_conversions_are_written_to_the_home_folder(home):
    from focus_detr.convert import convert_checkpoint
    from focus_detr.export import export

    (home / "model.onnx").mkdir()
    with pytest.raises(FocusDetrError, match=f"{home}/model.onnx: is a folder"):
        export("blood-cells", "~/model.onnx")
    (home / "there").touch()
    with pytest.raises(FocusDetrError, match=f"{home}/there: is not a folder"):
        convert_checkpoint("x.pth", "~/there")
    with pytest.raises(FocusDetrError, match=f"{home}/x.pth"):
        convert_checkpoint("~/x.pth", "~/new")

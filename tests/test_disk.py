"""A full disk, a folder that is read only, two runs in one folder: said, and nothing lost or half-written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from focus_detr import FocusDetr, FocusDetrError
from focus_detr.cli import app
from focus_detr.data import load_dataset
from focus_detr.data.writing import write_dataset
from focus_detr.disk import explained_disk, only_run, refusal
from focus_detr.errors import NotWrittenError
from focus_detr.export import export
from focus_detr.folders import whole_file, whole_files, writable_folder
from focus_detr.inference.results import Detections
from focus_detr.inference.writers import CocoWriter, CsvWriter, JsonLinesWriter
from focus_detr.structures.instances import Instances
from helpers.full_disk import room_for
from helpers.tiny_datasets import write_coco, write_image

FULL = "cannot be written to .File too large.; make room there or allow writing"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def detections(objects: int) -> Detections:
    boxes = np.tile(np.array([[1.0, 2, 3, 4]]), (objects, 1))
    instances = Instances(
        boxes_xyxy=boxes, scores=np.full(objects, 0.5), labels=np.zeros(objects, dtype=np.int64)
    )
    return Detections("a.jpg", instances, ["cat"], (9, 9))


@pytest.mark.parametrize("room", [0, 1000, 40_000])
def test_a_model_is_saved_whole_or_the_one_before_stays(tiny_model, tmp_path, room):
    detector = FocusDetr(tiny_model)
    target = detector.save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with room_for(room), pytest.raises(NotWrittenError, match=f"{target}: {FULL}"):
        detector.save(target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def a_graph(*arguments, **options):
    """Of 1.4 MB, in the place of a model's, which takes a minute to trace."""
    return torch.export.export(torch.nn.Linear(600, 600), (torch.zeros(1, 600),))


def an_openvino_graph(*arguments):
    from openvino import Model, opset13

    given = opset13.parameter([1, 600], np.float32)
    weights = opset13.constant(np.ones((600, 600), dtype=np.float32) * np.arange(600, dtype=np.float32))
    return Model([opset13.matmul(given, weights, False, False)], [given])


@pytest.mark.parametrize("name", ["model.pt2", "model.xml"])
def test_an_export_is_written_whole_or_the_one_before_stays(tiny_model, tmp_path, name, monkeypatch):
    monkeypatch.setattr("focus_detr.export.tracing.trace", a_graph)
    if name == "model.xml":
        pytest.importorskip("openvino")
        monkeypatch.setattr("focus_detr.export.onnx.write", lambda *arguments, **options: None)
        monkeypatch.setattr("openvino.convert_model", an_openvino_graph)
    format, file = {"model.pt2": "torch-export", "model.xml": "openvino"}[name], tmp_path / name
    file.write_text("one before")
    with room_for(20_000), pytest.raises(NotWrittenError, match=f"{file}: cannot be written to"):
        export(tiny_model, file, format)
    assert file.read_text() == "one before" and names(tmp_path) == {name}
    export(tiny_model, file, format)
    assert file.read_bytes()[:10] != b"one before"


@pytest.mark.parametrize("writer", [CocoWriter, CsvWriter, JsonLinesWriter])
@pytest.mark.parametrize("room", range(400, 2000, 193))
def test_results_hold_those_that_had_room_and_no_part_of_another(tmp_path, writer, room):
    file, added = tmp_path / "results", 0
    with writer(file) as results, room_for(room), pytest.raises(OSError, match="too large"):
        while True:
            results.add(detections(2))
            added += 1
    text = file.read_text()
    if writer is CocoWriter:
        assert len(json.loads(text)) == 2 * added
    elif writer is CsvWriter:
        assert [len(row) for row in csv.reader(text.splitlines())] == [11] * (1 + 2 * added)
    else:
        assert len([json.loads(line) for line in text.splitlines()]) == added


def test_after_room_was_made_the_next_result_is_written_behind_the_last(tmp_path):
    with CocoWriter(tmp_path / "results") as results:
        with room_for(300), pytest.raises(OSError, match="too large"):
            results.add(detections(20))
        results.add(detections(2))
    assert len(json.loads((tmp_path / "results").read_text())) == 2


def test_what_the_disk_refuses_is_told_from_other_errors(tmp_path):
    inside = OSError(13, "Permission denied", str(tmp_path / "a" / "b"))
    outside = OSError(2, "No such file", "/elsewhere/picture.jpg")
    assert refusal(inside, tmp_path) == "Permission denied" and refusal(inside, tmp_path / "c") is None
    assert refusal(outside, tmp_path) is None and refusal(KeyError("x"), tmp_path) is None
    assert refusal(RuntimeError("I/O error: No space left on device (os error 28)")) == os.strerror(28)
    late = RuntimeError("unexpected pos 704 vs 598")
    late.__context__ = OSError(28, os.strerror(28))
    assert refusal(late) == os.strerror(28)
    with pytest.raises(FileNotFoundError), explained_disk(tmp_path):
        raise outside


def test_nothing_is_left_of_files_that_were_not_finished(tmp_path):
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(KeyError), whole_files(tmp_path) as writing:
        (writing / "kept").write_text("half")
        raise KeyError
    with pytest.raises(KeyError), whole_file(tmp_path / "kept") as stream:
        stream.write(b"half")
        raise KeyError
    assert names(tmp_path) == {"kept"} and (tmp_path / "kept").read_text() == "kept"


def test_a_read_only_place_is_refused_before_the_work():
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    read_only = [place for _, place, _, options, *_ in mounts if "ro" in options.split(",")]
    folders = [place for place in read_only if os.path.isdir(place) and not os.access(place, os.W_OK)]
    if not folders:
        pytest.skip("nothing here is mounted read only")
    with pytest.raises(FocusDetrError, match="cannot be written to; give another place"):
        writable_folder(Path(folders[0]) / "runs")


def test_a_folder_is_of_one_run_at_a_time(tmp_path):
    folder = tmp_path / "run"
    with only_run(folder):
        with (
            pytest.raises(FocusDetrError, match=f"output {folder}: another run writes there"),
            only_run(folder),
        ):
            pass
        (folder / "result").touch()
    with only_run(folder):  # ended, it holds nobody up
        pass
    assert names(tmp_path) == {"run", "result"}
    with only_run(tmp_path / "new"):  # of a run that wrote nothing, nothing stays
        pass
    assert names(tmp_path) == {"run", "result"}


def test_a_run_that_was_killed_holds_nobody_up(tmp_path):
    code = """
        import os, signal, sys
        from pathlib import Path
        from focus_detr.disk import only_run
        with only_run(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(FocusDetrError, match="another run writes there"), only_run(tmp_path / "run"):
            pass
        other.kill()
        other.wait()
        with only_run(tmp_path / "run"):
            pass


def test_what_is_printed_to_a_full_disk_ends_in_a_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "focus_detr", "presets", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: output cannot be written (No space left on device)")


def test_two_copies_of_a_data_set_into_one_folder_do_not_mix(tmp_path):
    write_coco(tmp_path / "data" / "instances_train.json", tmp_path / "data" / "train")
    data, target = load_dataset(tmp_path / "data"), tmp_path / "copy"
    (tmp_path / ".copy.part" / "left").mkdir(parents=True)  # by a run that was killed
    with only_run(tmp_path / ".copy.part"):
        with pytest.raises(FocusDetrError, match="another run writes there"):
            write_dataset({"train": data}, target, "coco")
        assert (tmp_path / ".copy.part" / "left").is_dir()
    write_dataset({"train": data}, target, "coco")
    assert len(load_dataset(target)) == len(data) and not (target / "left").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"data", "copy"}


def test_two_predictions_into_one_folder_do_not_mix(tiny_model, tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    words = ["predict", str(tiny_model), str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    with (
        only_run(tmp_path / "out"),
        pytest.raises(FocusDetrError, match="--output.*another run writes there"),
    ):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert names(tmp_path / "out") == set()
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert names(tmp_path / "out")

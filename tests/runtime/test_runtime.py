"""The runtime: no torch, what the whole package finds, and a distribution of the files that this takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_detr import FocusDetrImageProcessor
from focus_detr.errors import FocusDetrError
from focus_detr.export import export
from focus_detr.inference import Predictor as WholePredictor
from focus_detr.runtime import BadImage, Predictor
from focus_detr.runtime.cli import main
from helpers.small_models import SHALLOW, small_model

ROOT = Path(__file__).parents[2]
ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "numpy", "PIL", "onnxruntime", "focus_detr"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose budget is an input."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    processor = FocusDetrImageProcessor(size={"height": 96, "width": 160}, nms_threshold=0.7)
    path = tmp_path_factory.mktemp("runtime") / "model.onnx"
    options = {"processor": processor, "image_size": (96, 160), "batch_size": 1, "budget": "any"}
    return export(small_model(**SHALLOW), path, "onnx", **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([(90, 61), (200, 120), (61, 90)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "3.jpg").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("budget", [None, 0.1, 1.0])
def test_it_finds_what_the_whole_package_finds_to_the_bit(model, photos, budget):
    whole = WholePredictor.from_pretrained(model).predict(photos, threshold=0.01, budget=budget)
    found = list(Predictor(model, budget=budget).predict(photos, threshold=0.01))
    assert [each.to_dict() for each in found] == [each.to_dict() for each in whole]
    assert sum(len(each) for each in found if not isinstance(each, BadImage)) > 10
    assert isinstance(found[3], BadImage)


def test_budgets_change_what_is_found(model, photos):
    picture = photos / "0.png"
    few, all_of_them = (next(Predictor(model, budget=b).predict(picture, threshold=0.0)) for b in (0.05, 1.0))
    assert not np.array_equal(few.scores, all_of_them.scores)


def test_neither_torch_nor_anything_else_is_imported(model, photos):
    program = (
        f"{ALONE}from focus_detr.runtime.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] == 'focus_detr'), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    arguments = [str(model), str(photos), "--threshold", "0.01", "--json-lines"]
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    whole = WholePredictor.from_pretrained(model).predict(photos, threshold=0.01)
    assert lines == [each.to_dict() for each in whole]
    imported = set(re.findall(r"'(focus_detr[\w.]*)'", ran.stderr))
    assert imported - modules_of_the_distribution() == set()


def modules_of_the_distribution() -> set[str]:
    text = (ROOT / "runtime" / "setup.py").read_text()
    files = re.search(r'FILES = """(.*?)"""', text, re.DOTALL)[1].split()
    paths = [f"focus_detr/{name}" for name in files if "." not in name]
    return {path.removesuffix("/__init__").replace("/", ".") for path in paths}


def test_the_distribution_has_files_that_are_there_and_what_they_import_at_once():
    source = ROOT / "src"
    for module in modules_of_the_distribution():
        path = source / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert file.is_file(), module
        for line in file.read_text().splitlines():
            if named := re.match(r"from (focus_detr\.[\w.]+) import|import (focus_detr\.[\w.]+)", line):
                assert (named[1] or named[2]) in modules_of_the_distribution(), f"{module}: {line}"


def test_the_two_ask_for_the_same_versions():
    import tomllib

    whole, small = (
        tomllib.loads((ROOT / place / "pyproject.toml").read_text())["project"] for place in (".", "runtime")
    )
    known = {*whole["dependencies"], *whole["optional-dependencies"]["runtime"]}
    assert set(small["dependencies"]) <= known


def test_the_command_says_what_is_wrong(model, photos, capsys, tmp_path):
    assert main([str(tmp_path / "none.onnx"), str(photos)]) == 2
    assert "none.onnx: no such file" in capsys.readouterr().err
    (tmp_path / "other.onnx").write_bytes(b"no model")
    assert main([str(tmp_path / "other.onnx"), str(photos)]) == 2
    assert "other.onnx" in capsys.readouterr().err
    assert main(["model.pt2", str(photos)]) == 2
    assert "the runtime reads ONNX files" in capsys.readouterr().err
    assert main([str(model), str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert main([str(model), str(photos), "--budget", "7"]) == 2
    assert "budget=7.0" in capsys.readouterr().err
    assert main([str(model), str(photos), "--tile", "huge"]) == 2
    assert "tile='huge'" in capsys.readouterr().err
    assert main([str(model), str(photos / "3.jpg")]) == 1
    assert main([str(model), str(photos), "--json", "--json-lines"]) == 2


def test_the_command_prints_json_or_a_line_a_picture(model, photos, capsys):
    assert main([str(model), str(photos), "--json", "--threshold", "0.01"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(each["path"]).name for each in found] == ["0.png", "1.png", "2.png", "3.jpg"]
    assert "error" in found[3] and found[0]["objects"]
    assert main([str(model), str(photos), "--threshold", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("0.png: nothing") and lines[3].endswith("3.jpg: not read")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FocusDetrError, match="the runtime reads ONNX files"):
        Predictor(tmp_path / "model.xml")


@pytest.mark.slow
def test_it_can_be_installed_without_torch(model):
    """In an environment of its own; needs pip to find what it depends on."""
    script = [sys.executable, str(ROOT / "scripts" / "check_runtime.py"), "--model", str(model)]
    ran = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0 and "without torch" in ran.stdout, ran.stdout + ran.stderr

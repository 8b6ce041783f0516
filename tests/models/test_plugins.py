"""Code of strangers: a model that names modules does not get them imported without being trusted to."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from transformers import AutoConfig, AutoModelForObjectDetection
from typer.testing import CliRunner

from focus_detr import FocusDetr, FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.cli import app
from focus_detr.cli.asking import may_import
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import evaluate
from focus_detr.export import export
from focus_detr.inference import Predictor
from focus_detr.models.plugins import asking, import_plugins, trusting_plugins
from focus_detr.models.policies import POLICIES
from focus_detr.training import train
from focus_detr.zoo.loading import load_model
from helpers.tiny_datasets import write_coco


@pytest.fixture
def stranger(tiny_model, tmp_path, monkeypatch):
    """A model whose config.json names a module that lies where Python finds it."""
    folder = tmp_path / "stranger"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "plugins": ["strange_module"]}))
    (tmp_path / "strange_module.py").write_text(
        "from focus_detr.models.policies import POLICIES\n"
        "from focus_detr.models.policies.dense import DensePolicy\n"
        "@POLICIES.register('strange')\n"
        "class StrangePolicy(DensePolicy): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(POLICIES, "_classes", dict(POLICIES._classes))
    yield folder
    sys.modules.pop("strange_module", None)


@pytest.fixture
def data(tmp_path):
    write_coco(tmp_path / "data" / "instances_train.json", tmp_path / "data" / "train")
    return tmp_path / "data"


WAYS = {
    "FocusDetr": lambda folder, data, **trust: FocusDetr(folder, **trust).predict(np.zeros((9, 9, 3), "u1")),
    "Predictor": lambda folder, data, **trust: Predictor.from_pretrained(folder, **trust),
    "load_model": lambda folder, data, **trust: load_model(folder, **trust),
    "model": lambda folder, data, **trust: FocusDetrForObjectDetection.from_pretrained(folder, **trust),
    "auto model": lambda folder, data, **trust: AutoModelForObjectDetection.from_pretrained(folder, **trust),
    "configuration": lambda folder, data, **trust: FocusDetrConfig.from_pretrained(folder, **trust),
    "auto configuration": lambda folder, data, **trust: AutoConfig.from_pretrained(folder, **trust),
    "evaluate": lambda folder, data, **trust: evaluate(folder, data, split="train", progress=False, **trust),
    "export": lambda folder, data, **trust: export(folder, folder / "a.pt2", "torch-export", **trust),
    "train": lambda folder, data, **trust: train(
        data, model=str(folder), recipe=RECIPE, output=folder / "run", **trust
    ),
}
RECIPE = {
    "name": "short", "epochs": None, "max_steps": 1, "batch_size": 2, "shortest_edge": 64, "longest_edge": 96,
    "workers": 0, "eval_split": None, "augmentation": "none", "backbone_weights": None, "lr_drops": [],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_strangers_module_is_not_imported(way, stranger, data):
    with pytest.raises(FocusDetrError, match=r"plugins=\['strange_module'\].*trust_plugins=True"):
        WAYS[way](stranger, data)
    assert "strange_module" not in sys.modules


@pytest.mark.parametrize("way", ["FocusDetr", "auto model", "configuration", "train"])
def test_trusted_it_is(way, stranger, data):
    WAYS[way](stranger, data, trust_plugins=True)
    assert "strange_module" in sys.modules


@pytest.mark.parametrize("way", ["FocusDetr", "auto model", "configuration"])
def test_imported_by_the_caller_it_needs_no_trust(way, stranger, data):
    import_plugins(["strange_module"])  # named by the caller
    WAYS[way](stranger, data)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "{model}", "{data}"),
        ("evaluate", "{model}", "{data}", "--split", "train"),
        ("export", "{model}", "--format", "torch-export", "--output", "{data}/a.pt2"),
        ("benchmark", "{model}", "--size", "64x64", "--runs", "1", "--warmup", "0", "--no-memory"),
        ("train", "{data}", "--model", "{model}", "--output", "{data}/run", "--set", "eval_split=null"),
    ],
)
def test_every_verb_asks_for_trust(arguments, stranger, data):
    words = [word.format(model=stranger, data=data) for word in arguments]
    with pytest.raises(FocusDetrError, match="--trust-plugins"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert "strange_module" not in sys.modules
    if arguments[0] == "predict":
        assert CliRunner().invoke(app, [*words, "--trust-plugins"]).exit_code == 0


def test_a_json_file_is_a_file_too(stranger):
    with pytest.raises(FocusDetrError, match="trust_plugins=True"):
        FocusDetrConfig.from_json_file(stranger / "config.json")
    with trusting_plugins():
        assert FocusDetrConfig.from_json_file(stranger / "config.json").plugins == ["strange_module"]


def test_a_recipe_file_is_a_file_too(stranger, data, tmp_path):
    file = tmp_path / "strange.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, "model": {"plugins": ["strange_module"]}}))
    with pytest.raises(FocusDetrError, match="trust_plugins=True"):
        train(data, recipe=file, output=tmp_path / "run")
    assert "strange_module" not in sys.modules and not (tmp_path / "run").exists()


def test_trust_ends_with_the_call(stranger, data):
    with trusting_plugins():
        pass
    with pytest.raises(FocusDetrError, match="trust_plugins=True"):
        WAYS["configuration"](stranger, data)


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "imported"), [("y\n", True), ("\n", False)])
def test_at_a_terminal_it_is_asked_first(answer, imported, stranger, data):
    """A terminal of its own, as a person has it: without one, nobody is asked and nothing is imported."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    done = subprocess.Popen(
        [sys.executable, "-m", "focus_detr", "predict", str(stranger), str(data / "train")],
        stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
    )  # fmt: skip
    os.close(theirs)
    said = ""
    while True:
        try:
            said += os.read(ours, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            break
    assert "names modules of its own: strange_module" in said and "[y/N]" in said
    assert ("plugins=['strange_module']" in said) == (not imported)
    assert (done.wait() == 0) == imported


@pytest.mark.parametrize("agreed", [True, False])
def test_whoever_is_asked_decides(agreed, stranger):
    questions = []
    with asking(lambda names: questions.append(list(names)) or agreed):
        if agreed:
            load_model(stranger)
        else:
            with pytest.raises(FocusDetrError, match="--trust-plugins"):
                load_model(stranger)
    assert questions[0] == ["strange_module"] and ("strange_module" in sys.modules) == agreed


def test_without_a_terminal_nobody_is_asked(monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda *words, **options: True)
    assert not may_import(["strange_module"])  # nobody could see the question

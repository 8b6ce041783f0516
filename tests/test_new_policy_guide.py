"""The guide's own policy works as it says: trained, saved and used by the command line."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from focus_detr import FocusDetr, FocusDetrConfig
from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from focus_detr.models.policies import POLICIES

GUIDE = Path(__file__).parents[1] / "docs" / "new-policy.md"
TINY = {
    "d_model": 16, "attention_heads": 2, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "num_queries": 6, "num_detections": 6, "denoising_queries": 2,
}  # fmt: skip


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write source of a module of this name, where Python finds it for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    classes = dict(POLICIES._classes)
    written = []

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        written.append(name)
        return name

    yield write
    POLICIES._classes = classes
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def norm_policy(module):
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) < 60
    return module("norm_policy", source)


@pytest.fixture
def photos(tmp_path):
    """A data set in COCO's format of two images with a dot each."""
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 64} for i in (1, 2)]
    for each in images:
        Image.new("RGB", (96, 64), "white").save(folder / each["file_name"])
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 30, 30], "area": 900, "iscrowd": 0}
        for i in (1, 2)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dot"}]}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return folder.parent


def test_the_guide_s_policy_is_trained_and_used(norm_policy, photos, tmp_path):
    fields = {**TINY, "plugins": [norm_policy], "token_policy": "norm", "policy_options": {"share": 0.4}}
    recipe = {"max_steps": 2, "batch_size": 2, "shortest_edge": 64, "longest_edge": 96, "workers": 0}
    recipe |= {"eval_split": None, "backbone_weights": None, "augmentation": "none", "lr_drops": []}
    settings = [f"--set={key}={json.dumps(value)}" for key, value in {**recipe, "model": fields}.items()]
    command = [
        "train",
        photos,
        "--model",
        "focus-detr-lite0",
        "--output",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    trained = CliRunner().invoke(app, [str(part) for part in [*command, *settings]], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    folder = tmp_path / "run" / "last"
    assert json.loads((folder / "config.json").read_text())["plugins"] == ["norm_policy"]

    # As in a process of its own: the module is imported because the model names it.
    del POLICIES._classes["norm"], sys.modules["norm_policy"]
    command = [
        "predict",
        folder,
        photos / "train",
        "--heatmap",
        "--output",
        tmp_path / "found",
        "--device",
        "cpu",
    ]
    with pytest.raises(FocusDetrError, match=r"plugins=\['norm_policy'\].*--trust-plugins"):
        CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
    assert "norm_policy" not in sys.modules
    command.append("--trust-plugins")
    predicted = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
    assert predicted.exit_code == 0, predicted.output
    assert "norm" in POLICIES.names()
    assert len(list((tmp_path / "found").rglob("*heatmap*"))) >= 1

    # And refused by name where it is not to be found.
    del POLICIES._classes["norm"], sys.modules["norm_policy"]
    shutil.move(tmp_path / "norm_policy.py", tmp_path / "elsewhere.py")
    with pytest.raises(
        FocusDetrError, match=r"plugins=\['norm_policy'\]: there is no module 'norm_policy'.*PYTHONPATH"
    ):
        FocusDetr(folder, trust_plugins=True).predict(photos / "train" / "1.png")


def test_its_options_are_strict(norm_policy):
    def config(**options):
        return FocusDetrConfig.from_preset(
            "focus-detr-lite0", plugins=[norm_policy], token_policy="norm", policy_options=options
        )

    assert config(share=0.4).policy_options == {"share": 0.4}
    with pytest.raises(FocusDetrError, match=r"policy_options\['share'\]=0: must lie in \(0, 1\]"):
        config(share=0)
    with pytest.raises(FocusDetrError, match="unknown key 'shared' .did you mean 'share'"):
        config(shared=0.5)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("registers_nothing", "x = 1\n", "plugins: 'registers_nothing' registers nothing; it needs a class"),
        (
            "needs_another",
            "import not_there_at_all\n",
            "'needs_another' needs 'not_there_at_all'; install it",
        ),
        ("is_broken", "1 / 0\n", "plugins: 'is_broken' cannot be imported: ZeroDivisionError"),
    ],
)
def test_modules_that_are_no_plugins_are_refused(module, name, source, message):
    with pytest.raises(FocusDetrError, match=message):
        FocusDetrConfig.from_preset("focus-detr-lite0", plugins=[module(name, source)])


def test_an_unknown_policy_s_message_names_the_way():
    with pytest.raises(
        FocusDetrError, match="token_policy='norm': not known.*the module that registers it in plugins"
    ):
        FocusDetrConfig.from_preset("focus-detr-lite0", token_policy="norm")

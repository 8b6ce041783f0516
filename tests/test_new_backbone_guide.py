"""The guide's own backbone works as it says: one entry, trained, saved and used by the command line."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification
from typer.testing import CliRunner

from focus_detr import FocusDetrForObjectDetection
from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones import catalogue
from focus_detr.zoo.presets import preset, preset_weights
from helpers.tiny_datasets import write_coco

GUIDE = Path(__file__).parents[1] / "docs" / "new-backbone.md"
TINY = {
    "d_model": 16, "attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "num_queries": 6, "num_detections": 6, "denoising_queries": 2, "cascade": [1.0],
}  # fmt: skip


@pytest.fixture
def convnext(tmp_path, monkeypatch):
    """The guide's module where Python finds it, and its hub model of random numbers."""
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) < 30
    (tmp_path / "convnext.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(catalogue.BACKBONES, "_entries", dict(catalogue.BACKBONES._entries))

    def fetched(hub_id, **options):
        folder = tmp_path / hub_id.replace("/", "--")
        if not folder.is_dir():
            torch.manual_seed(0)
            AutoModelForImageClassification.from_config(
                catalogue.BACKBONES["convnextv2-atto"].config()
            ).save_pretrained(folder)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    yield "convnext"
    sys.modules.pop("convnext", None)


def test_the_guide_s_backbone_is_trained_from_its_weight_and_used(convnext, tmp_path):
    data = tmp_path / "data"
    write_coco(data / "train" / "_annotations.coco.json", data / "train")
    command = re.search(r"focus-detr (train data .*?)\nfocus-detr", GUIDE.read_text(), re.DOTALL).group(1)
    words = command.replace("\\\n", " ").split()
    assert words[:4] == ["train", "data", "--model", "focus-detr-lite0"]
    words[1], words[words.index("--output") + 1] = str(data), str(tmp_path / "run")
    recipe = {"max_steps": 2, "batch_size": 2, "shortest_edge": 64, "longest_edge": 96, "workers": 0}
    recipe |= {"eval_split": None, "augmentation": "none", "lr_drops": []}
    settings = [f"--set={key}={json.dumps(value)}" for key, value in recipe.items()]
    settings += [f"--set=model.{key}={json.dumps(value)}" for key, value in TINY.items()]
    trained = CliRunner().invoke(app, [*words, *settings, "--device", "cpu"], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    config = json.loads((tmp_path / "run" / "last" / "config.json").read_text())
    assert config["plugins"] == ["convnext"] and config["backbone_config"]["model_type"] == "convnextv2"
    model = FocusDetrForObjectDetection.from_pretrained(tmp_path / "run" / "last")
    assert model.strides == [8, 16, 32, 64]

    # As in a process of its own: the module is imported because the model names it, and is trusted.
    del catalogue.BACKBONES._entries["convnextv2-atto"], sys.modules["convnext"]
    command = ["predict", tmp_path / "run" / "last", data / "train", "--output", tmp_path / "found"]
    options = ["--trust-plugins", "--device", "cpu"]
    predicted = CliRunner().invoke(app, [str(part) for part in [*command, *options]], catch_exceptions=False)
    assert predicted.exit_code == 0, predicted.output
    assert "convnextv2-atto" in catalogue.BACKBONES


def test_its_parts_are_frozen_by_name_and_a_name_is_given_once(convnext):
    said = {"plugins": [convnext], "backbone": "convnextv2-atto"}
    model = FocusDetrForObjectDetection(
        preset("focus-detr-lite0", **said, **TINY, freeze_stem=True, freeze_stages=1)
    )
    assert model.backbone.frozen == ["embeddings", "encoder.stages.0"]
    assert preset_weights("focus-detr-lite0", **said) == "convnextv2-atto"
    entry = catalogue.BACKBONES["convnextv2-atto"]
    with pytest.raises(FocusDetrError, match="'convnextv2-atto' is registered already"):
        catalogue.BACKBONES.register(catalogue.BackboneEntry(**{**vars(entry), "hub": "someone/else"}))
    with pytest.raises(FocusDetrError, match="needs one of hub, package and file"):
        catalogue.BackboneEntry(**{**vars(entry), "package": "a-package"})

"""Pretrained weights: loaded from where the catalogue says, or refused with what would get them."""

import json
import socket
import threading
import time

import pytest
import torch
from transformers import (
    AutoBackbone,
    AutoModelForImageClassification,
    Dinov2Config,
    PvtV2Config,
    ResNetConfig,
    SwinConfig,
)

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.catalogue import BACKBONES, backbone_config
from focus_detr.models.backbones.weights import load_pretrained_backbone, pretrained_normalization

THREE = ["stage2", "stage3", "stage4"]
SMALL = {
    "resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=THREE
    ),
    "swin": SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=THREE
    ),
    "pvt_v2": PvtV2Config(
        hidden_sizes=[8, 16, 40, 64],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 5, 8],
        out_features=THREE,
    ),
    "dinov2": Dinov2Config(
        hidden_size=12, num_hidden_layers=4, num_attention_heads=3, image_size=56, out_features=["stage4"]
    ),
}


def filled(model):
    """The same with every tensor of its own numbers, statistics too."""
    generator = torch.Generator().manual_seed(1)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return model


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("family", SMALL)
def test_a_classifier_of_the_hub_fills_the_backbone(family, file, tmp_path, caplog):
    source = filled(AutoModelForImageClassification.from_config(SMALL[family]))
    source.save_pretrained(tmp_path)
    if file.endswith(".bin"):
        (tmp_path / "model.safetensors").unlink()
        torch.save(source.state_dict(), tmp_path / file)
    backbone = load_pretrained_backbone(build_backbone(SMALL[family]), tmp_path)
    given = {value.double().sum().item() for value in source.state_dict().values()}
    own = {
        key: value for key, value in backbone.model.state_dict().items() if "hidden_states_norms" not in key
    }
    assert own and all(value.double().sum().item() in given for value in own.values())
    assert "LOAD REPORT" not in caplog.text  # of a head that is left out, and of norms that start new


def test_a_folder_of_the_backbone_itself_is_a_source(tmp_path):
    source = filled(AutoBackbone.from_config(SMALL["resnet"]))
    source.save_pretrained(tmp_path)
    backbone = load_pretrained_backbone(build_backbone(SMALL["resnet"]), tmp_path)
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


def test_a_folder_of_another_architecture_is_refused(tmp_path):
    AutoBackbone.from_config(SMALL["resnet"]).save_pretrained(tmp_path)
    with pytest.raises(FocusDetrError, match=f"{tmp_path}: holds a 'resnet' model, and the .* 'swin'"):
        load_pretrained_backbone(build_backbone(SMALL["swin"]), tmp_path)
    deeper = ResNetConfig(**{**SMALL["resnet"].to_dict(), "depths": [1, 1, 2, 1]})
    with pytest.raises(FocusDetrError, match=r"lacks .* tensors|does not fit"):
        load_pretrained_backbone(build_backbone(deeper), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FocusDetrError, match=r"has no config\.json"):
        load_pretrained_backbone(build_backbone(SMALL["resnet"]), tmp_path)


def test_pixels_are_as_the_folder_says_else_as_such_weights_are_known(tmp_path):
    AutoBackbone.from_config(SMALL["resnet"]).save_pretrained(tmp_path)
    config = SMALL["resnet"]
    resnet50 = BACKBONES["resnet50"]
    assert pretrained_normalization(tmp_path, config) == (resnet50.mean, resnet50.std)
    said = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert pretrained_normalization(tmp_path, config) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert pretrained_normalization(tmp_path, config) == (resnet50.mean, resnet50.std)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": "grey", "image_std": 1}')
    with pytest.raises(FocusDetrError, match=r"preprocessor_config\.json: cannot be read"):
        pretrained_normalization(tmp_path, config)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_entry_says_where_its_weights_come_from(name):
    entry = BACKBONES[name]
    assert entry.licence and entry.data and entry.megabytes > 0
    assert len(entry.mean) == len(entry.std) == 3 and all(0 <= value < 1 for value in entry.mean)
    assert all(0 < value <= 1 for value in entry.std)
    config = entry.config()
    assert config.model_type == entry.family.model_type and set(entry.outputs) <= set(config.stage_names)
    with torch.device("meta"):
        model = build_backbone(backbone_config(name)).model
    assert model.get_submodule(entry.family.stem) and model.get_submodule(entry.family.stages)


@pytest.fixture
def silent_hub(monkeypatch):
    """A hub that takes connections and never answers, as behind many a firewall."""
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr("focus_detr.models.backbones.weights._HUB_TIMEOUT", 0.3)
    kept = []

    def accept():
        while True:
            try:
                kept.append(server.accept())
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield
    server.close()


def test_a_hub_out_of_reach_is_said_at_once_with_the_way_round(silent_hub, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = build_backbone(backbone_config("resnet50"))
    start = time.monotonic()
    with pytest.raises(FocusDetrError) as refused:
        load_pretrained_backbone(backbone, "resnet50")
    assert time.monotonic() - start < 5
    for part in (
        "hf download microsoft/resnet-50 --local-dir FOLDER (102 MB)",
        "--set backbone_weights=FOLDER",
        "--set backbone_weights=null",
    ):
        assert part in str(refused.value)


def test_what_the_hub_gave_once_is_used_without_asking_again(silent_hub, monkeypatch, tmp_path):
    def fetched(hub_id, *, allow_patterns, local_files_only=False, **options):
        assert hub_id == "microsoft/resnet-50" and local_files_only
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    filled(AutoModelForImageClassification.from_config(backbone_config("resnet50"))).save_pretrained(tmp_path)
    backbone = load_pretrained_backbone(build_backbone(backbone_config("resnet50")), "resnet50")
    assert backbone.model.embedder.embedder.normalization.running_mean.max() > 0.5


def test_a_folder_that_is_not_there_is_no_hub_id(tmp_path, silent_hub):
    start = time.monotonic()
    with pytest.raises(FocusDetrError, match=r"no such folder\..*--set backbone_weights=FOLDER"):
        load_pretrained_backbone(build_backbone(SMALL["resnet"]), tmp_path / "nowhere")
    assert time.monotonic() - start < 1

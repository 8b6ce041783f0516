"""YOLOX as a backbone: its maps are those of ONNX Runtime on the same file."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.catalogue import backbone_config
from focus_detr.models.backbones.weights import load_pretrained_backbone
from focus_detr.models.backbones.yolox import YoloxConfig
from helpers.yolox_file import MAPS, SMALL, write_yolox

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

# The published file, which is not part of the repository: YOLOX_NANO_ONNX=PATH, or in the checkout.
PUBLISHED = Path(
    os.environ.get("YOLOX_NANO_ONNX", Path(__file__).parents[3] / "shared/weights/yolox_nano.onnx")
)


def every_map(config=None):
    config = YoloxConfig() if config is None else config
    return YoloxConfig(**{**config.to_dict(), "out_features": config.stage_names, "out_indices": None})


def maps_in_onnx_runtime(path, names, pixels):
    graph = onnx.load(path)
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    bgr = pixels.flip(1).numpy()
    return [torch.from_numpy(each) for each in session.run(names, {session.get_inputs()[0].name: bgr})]


def check_parity(path, config, names, brightest):
    backbone = load_pretrained_backbone(build_backbone(every_map(config)), path).eval()
    pixels = np.random.default_rng(0).uniform(0, brightest, (1, 3, 416, 416))
    pixels = torch.from_numpy(pixels.astype(np.float32))
    with torch.no_grad():
        stages, towers = (lambda maps: (maps[:4], maps[4:]))(backbone(pixels / 255))
    ours = [*stages, *(half for tower in towers for half in tower.chunk(2, 1))]
    theirs = maps_in_onnx_runtime(path, names, pixels)
    assert all(each.std() > 0.01 for each in theirs)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-4)


def test_maps_of_a_file_of_the_layout_are_onnx_runtime_s(tmp_path):
    write_yolox(tmp_path / "yolox.onnx", SMALL)
    check_parity(tmp_path / "yolox.onnx", SMALL, MAPS, brightest=2)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="YOLOX_NANO_ONNX=PATH names no yolox_nano.onnx")
def test_maps_of_the_published_file_are_onnx_runtime_s():
    names = ["721", "781", "841", "886", "1044", "1061", "1086", "1103", "1128", "1145"]
    check_parity(PUBLISHED, YoloxConfig(), names, brightest=255)


def test_fewer_maps_need_fewer_parts_and_take_the_same_weights(tmp_path):
    write_yolox(tmp_path / "yolox.onnx", SMALL)
    whole = load_pretrained_backbone(build_backbone(every_map(SMALL)), tmp_path / "yolox.onnx")
    pixels = torch.rand(1, 3, 64, 96) * 255
    for names in (["stage2"], ["tower3"], ["stage1", "tower2", "tower3"]):
        config = YoloxConfig(**{**SMALL.to_dict(), "out_features": names, "out_indices": None})
        backbone = load_pretrained_backbone(build_backbone(config), tmp_path / "yolox.onnx")
        maps = dict(zip(whole.config.stage_names, whole(pixels), strict=True))
        for name, given in zip(names, backbone(pixels), strict=True):
            torch.testing.assert_close(given, maps[name], rtol=0, atol=1e-5)
        sum(each.sum() for each in backbone(pixels)).backward()
        if "tower3" in names:
            assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_a_file_that_does_not_fit_is_refused_with_its_name(tmp_path):
    write_yolox(tmp_path / "yolox.onnx", SMALL)
    published = build_backbone(backbone_config("yolox-nano"))
    with pytest.raises(FocusDetrError, match=r"yolox\.onnx: holds \d+ convolutions"):
        load_pretrained_backbone(published, tmp_path / "yolox.onnx")
    wider = YoloxConfig(**{**SMALL.to_dict(), "hidden_sizes": [8, 8, 8, 8, 16], "out_indices": None})
    with pytest.raises(FocusDetrError, match=r"yolox\.onnx: its convolution number 0"):
        load_pretrained_backbone(build_backbone(wider), tmp_path / "yolox.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(FocusDetrError, match=r"broken\.onnx: (cannot be read|is no YOLOX)"):
        load_pretrained_backbone(published, tmp_path / "broken.onnx")
    with pytest.raises(FocusDetrError, match="no such file"):
        load_pretrained_backbone(published, tmp_path / "absent.onnx")
    with pytest.raises(FocusDetrError, match="the backbone is a 'resnet'"):
        load_pretrained_backbone(build_backbone(backbone_config("resnet50")), tmp_path / "yolox.onnx")


def test_without_the_file_its_address_is_said():
    with pytest.raises(FocusDetrError, match=r"https://.*yolox_nano\.onnx.*backbone_weights=PATH"):
        load_pretrained_backbone(build_backbone(backbone_config("yolox-nano")), "yolox-nano")


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    write_yolox(tmp_path / "yolox.onnx", SMALL)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(FocusDetrError, match=r"pip install 'focus-detr\[export\]'"):
        load_pretrained_backbone(build_backbone(SMALL), tmp_path / "yolox.onnx")


def test_a_configuration_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="must have 5 entries"):
        YoloxConfig(hidden_sizes=[8, 16])

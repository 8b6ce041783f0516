"""Deformable DETR of `transformers`: converted, it gives the same outputs and losses."""

import copy
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.convert import convert_checkpoint
from focus_detr.convert import transformers_deformable as layout
from focus_detr.convert.rules import apply_rules
from focus_detr.errors import FocusDetrError
from helpers.layouts import resnet50, tensor

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
VARIANTS = {
    "single-stage": {},
    "refined": {"with_box_refine": True},
    "refined, untied": {"with_box_refine": True},
    "two-stage": {"with_box_refine": True, "two_stage": True, "two_stage_num_proposals": 15},
    "one level": {
        "num_feature_levels": 1,
        "backbone_config": ResNetConfig(out_features=["stage4"], **RESNET),
    },
}


def their_config(**changes):
    backbone = ResNetConfig(out_features=["stage2", "stage3", "stage4"], **RESNET)
    fields = dict(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        d_model=128, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48, decoder_ffn_dim=40, dropout=0.0,
        encoder_attention_heads=4, decoder_attention_heads=4, num_queries=12, auxiliary_loss=True,
        id2label={i: name for i, name in enumerate(["cat", "dog", "N/A", "N/A"])},
    )  # fmt: skip
    return DeformableDetrConfig(**{**fields, **changes})


def their_model(variant):
    """Random weights of a size that spreads boxes and scores."""
    torch.manual_seed(0)
    model = DeformableDetrForObjectDetection(their_config(**VARIANTS[variant]))
    if variant == "refined, untied":  # as the original is; a new model shares one class head
        model.class_embed[1] = copy.deepcopy(model.class_embed[0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "backbone" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request, tmp_path_factory):
    """Theirs, and ours from the folder it was saved to."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs = their_model(request.param)
    theirs.save_pretrained(folder / "theirs")
    convert_checkpoint(folder / "theirs", folder / "ours")
    return theirs, FocusDetrForObjectDetection.from_pretrained(folder / "ours").eval()


def batch():
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(2, 3, 128, 160, generator=generator)
    mask = torch.ones(2, 128, 160, dtype=torch.int64)
    pixels[1, :, 96:], mask[1, 96:] = 0, 0
    pixels[1, :, :, 130:], mask[1, :, 130:] = 0, 0
    two, one = [[0.3, 0.4, 0.3, 0.2], [0.6, 0.6, 0.5, 0.4]], [[0.5, 0.4, 0.4, 0.5]]
    labels = [
        {"class_labels": torch.tensor([0, 3]), "boxes": torch.tensor(two)},
        {"class_labels": torch.tensor([1]), "boxes": torch.tensor(one)},
    ]
    return pixels, mask, [{**label, "size": torch.tensor([128, 160])} for label in labels]


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_outputs_are_equal(pair, training):
    theirs, ours = pair
    pixels, mask, labels = batch()
    expected = theirs.train(training)(pixels, mask, labels=labels)
    found = ours.train(training)(pixels, mask, labels=labels)
    theirs.eval()
    ours.eval()
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.pred_boxes, expected.pred_boxes, rtol=0, atol=1e-5)
    assert expected.logits.std() > 0.1 and expected.pred_boxes.std() > 0.05


@torch.no_grad()
def test_losses_are_equal(pair):
    theirs, ours = pair
    pixels, mask, labels = batch()
    expected = theirs(pixels, mask, labels=labels).loss_dict
    found = ours(pixels, mask, labels=labels).loss_dict
    weights = {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2}
    parts = {
        key.replace("loss_ce", "loss_class"): weights[key.rsplit("_0", 1)[0]] * value
        for key, value in expected.items()
        if not key.startswith("cardinality")
    }
    # Theirs leaves out the proposals' loss of the two-stage variant.
    assert parts.keys() == {key for key in found if not key.endswith("_enc")}
    assert any(key.endswith("_enc") for key in found) == ours.config.host_options["two_stage"]
    for key, value in parts.items():
        torch.testing.assert_close(found[key], value.squeeze(), rtol=1e-5, atol=1e-5, msg=key)


def test_its_settings_are_kept(pair):
    theirs, ours = pair
    config = ours.config
    assert config.num_queries == (15 if theirs.config.two_stage else 12)
    assert list(config.id2label.values()) == ["cat", "dog", "unused 2", "unused 3"]
    assert (config.class_cost, config.dropout, config.attention_heads) == (1, 0.0, 4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_of_the_hub_are_known(variant):
    # Older files hold every copy, under other names, and timm's names of the backbone.
    state = their_model(variant).state_dict()
    old = {}
    for key, value in state.items():
        key = key.replace("model.backbone.model.", "model.backbone.conv_encoder.model.")
        key = key.replace(".mlp.fc", ".fc").replace("self_attn.o_proj", "self_attn.out_proj")
        key = key.replace("encoder.stages.0.layers.0.layer.0.convolution", "layer1.0.conv1")
        key = key.replace("encoder.stages.0.layers.0.layer.0.normalization", "layer1.0.bn1")
        old[key] = value
    old["model.backbone.conv_encoder.model.layer1.0.bn1.num_batches_tracked"] = torch.tensor(3)
    assert "model.encoder.layers.0.fc1.weight" in old
    new = apply_rules(state, layout.rules(state), variant)
    result = apply_rules(old, layout.rules(old), variant)
    assert result.unknown == [] and set(result.names) | set(result.dropped) == set(old)
    assert result.state.keys() == new.state.keys()
    assert all(torch.equal(result.state[key], new.state[key]) for key in new.state)


def hub_model(folder, **changes):
    """A folder like the Hub's: half precision, timm's ResNet-50, a row for each of 91 category ids."""
    fields = {"d_model": 256, "encoder_layers": 1, "decoder_layers": 2, "backbone": "resnet50"}
    labels = {i: {1: "person", 90: "toothbrush"}.get(i, "N/A") for i in range(91)}
    resnet = ResNetConfig(
        out_features=["stage2", "stage3", "stage4"][-changes.get("num_feature_levels", 3) :]
    )
    with torch.device("meta"):
        config = their_config(**fields, backbone_config=resnet, id2label=labels, **changes)
        shapes = {
            key: value.shape for key, value in DeformableDetrForObjectDetection(config).state_dict().items()
        }
    state = {key: tensor(shape) for key, shape in shapes.items() if "backbone" not in key}
    state |= {f"model.backbone.conv_encoder.model.{key}": tensor(shape) for key, shape in resnet50()}
    if config.with_box_refine:
        for key in state:
            if match := re.search(r"(?:class|bbox)_embed\.(\d)", key):
                state[key] = tensor(state[key].shape, float(match[1]))
    settings = {**config.to_dict(), "use_timm_backbone": True}
    del settings["backbone_config"]
    folder.mkdir()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    return state


@pytest.mark.parametrize("variant", [{}, {"num_feature_levels": 1}, {"with_box_refine": True}], ids=str)
def test_a_model_of_the_hub(variant, tmp_path):
    state = hub_model(tmp_path / "theirs", **variant)
    report = convert_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    assert set(report.renamed) | set(report.dropped) == set(state)
    config = FocusDetrConfig.from_pretrained(tmp_path / "ours")
    assert config.num_levels == variant.get("num_feature_levels", 4)
    assert (config.num_labels, config.category_ids) == (91, list(range(91)))
    assert (config.id2label[1], config.id2label[2]) == ("person", "unused 2")
    assert config.backbone_config.depths == [3, 4, 6, 3] and config.dtype == torch.float16
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    assert {value.dtype for value in ours.values()} == {torch.float16}
    if "with_box_refine" in variant:
        heads = [ours[f"host.{kind}_heads.1.{end}"] for kind, end in
                 (("class", "weight"), ("box", "layers.2.bias"))]  # fmt: skip
        assert all((head == 1).all() for head in heads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "gelu"}, "activation_function='gelu' is not supported, only 'relu'"),
        ({"dilation": True}, "dilation=True is not supported, only False"),
        ({"position_embedding_type": "learned"}, "position_embedding_type='learned' is not supported"),
        ({"decoder_n_points": 2}, r"as many attention heads \(\{4\}\) and points \(\{"),
        ({"d_model": 64}, "d_model=64 is not supported"),
        ({"backbone_config": {"model_type": "swin"}}, "a backbone of 'swin' is not supported, only a ResNet"),
        (
            {"num_feature_levels": 1, "backbone_config": None, "backbone": "resnet18"},
            "backbone 'resnet18' is not known",
        ),
    ],
)
def test_what_we_do_not_have_is_named(changes, message):
    settings = {**their_config().to_dict(), **changes}
    with pytest.raises(FocusDetrError, match=message):
        layout.fields(settings)


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    theirs = their_model("single-stage")
    theirs.save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "activation_function": "gelu"}))
    with pytest.raises(FocusDetrError, match="activation_function"):
        convert_checkpoint(tmp_path / "m", tmp_path / "ours")
    path.write_text(json.dumps(settings))
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights["model.extra.weight"] = torch.zeros(1)
    save_file(weights, tmp_path / "m" / "model.safetensors")
    with pytest.raises(FocusDetrError, match=r"1 keys are no part of layout.*model\.extra\.weight"):
        convert_checkpoint(tmp_path / "m" / "model.safetensors", tmp_path / "ours")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FocusDetrError, match=r"has no model\.safetensors"):
        convert_checkpoint(tmp_path / "empty", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()

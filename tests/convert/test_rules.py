import json
import re

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.convert import deformable, detr, detrex, dino, lite_dino
from focus_detr.convert.backbones import detect_backbone
from focus_detr.convert.coco import COCO_CATEGORY_IDS
from focus_detr.convert.layouts import detect_layout
from focus_detr.convert.rules import Rule, apply_rules
from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import backbone_config, build_backbone
from helpers.layouts import (
    DATA,
    DETREX,
    NAMES,
    detrex_deformable_state,
    detrex_state,
    dino_state,
    dn_deformable_state,
)
from helpers.parity_weights import make

BACKBONES = {
    "dino_r50": "resnet50",
    "focus_detr_r50": "resnet50",
    "focus_detr_r101": "resnet101",
    "focus_detr_swin_tiny_224": "swin-tiny-224",
    "focus_detr_swin_small_224": "swin-small-224",
    "focus_detr_swin_base_384": "swin-base-384",
    "focus_detr_swin_large_384": "swin-large-384",
}


def check_backbone(state, name):
    with torch.device("meta"):
        backbone = build_backbone(backbone_config(name))
    expected = {f"backbone.{key}": value.shape for key, value in backbone.state_dict().items()}
    assert {key: value.shape for key, value in state.items() if key.startswith("backbone.")} == expected


def rest(state, without_backbone):
    outside = ("backbone.", "neck.") if without_backbone else ()
    return {key: value.shape for key, value in state.items() if not key.startswith(outside)}


@pytest.mark.parametrize("name", DETREX)
def test_every_detrex_key_is_accounted_for(name):
    state = detrex_state(name)
    result = apply_rules(state, detrex.rules(state), name)
    assert result.unknown == []
    assert set(result.names) | set(result.dropped) == set(state)
    assert not set(result.names) & set(result.dropped)
    assert sorted(new for names in result.names.values() for new in names) == sorted(result.state)
    assert detect_backbone(result.state, name) == BACKBONES[name]
    check_backbone(result.state, BACKBONES[name])
    assert len(result.dropped) == (80 if name.startswith("focus") else 56)
    assert all(reason.startswith("copy of") for reason in result.dropped.values())
    values = sum(value.numel() for key, value in state.items() if key not in result.dropped)
    assert sum(value.numel() for value in result.state.values()) == values


@pytest.mark.parametrize("swin", [False, True])
def test_every_original_dino_key_is_accounted_for(swin):
    state = dino_state(swin)
    assert dino.is_dino(state) and not detrex.is_detrex(state)
    result = apply_rules(state, dino.rules(state), "dino")
    assert result.unknown == []
    assert set(result.names) | set(result.dropped) == set(state)
    assert detect_backbone(result.state, "dino") == ("swin-tiny-224" if swin else "resnet50")
    check_backbone(result.state, "swin-tiny-224" if swin else "resnet50")
    ours, _ = dino.adapt(result.state, None)
    theirs = detrex_state("dino_r50")
    theirs = apply_rules(theirs, detrex.rules(theirs), "detrex").state
    assert rest(ours, swin) == rest(theirs, swin)


DETREX_NAMES = {
    "backbone.stem.conv1.norm.running_var": "backbone.model.embedder.embedder.normalization.running_var",
    "backbone.res4.5.conv2.weight": "backbone.model.encoder.stages.2.layers.5.layer.1.convolution.weight",
    "backbone.res5.0.shortcut.norm.bias": (
        "backbone.model.encoder.stages.3.layers.0.shortcut.normalization.bias"
    ),
    "neck.convs.1.conv.weight": "neck.projections.1.conv.weight",
    "neck.extra_convs.0.norm.bias": "neck.projections.3.norm.bias",
    "transformer.alpha": "encoder.selector.modulation",
    "transformer.enc_mask_predictor.layer1.0.weight": "encoder.selector.norm.weight",
    "transformer.enc_mask_predictor.layer1.1.weight": "encoder.selector.project.weight",
    "transformer.enc_mask_predictor.layer2.4.bias": "encoder.selector.score.4.bias",
    "transformer.encoder.layers.2.attentions.0.attn.in_proj_weight": (
        "encoder.layers.2.self_attention.in_proj_weight"
    ),
    "transformer.encoder.layers.2.attentions.1.value_proj.bias": (
        "encoder.layers.2.deformable_attention.value_proj.bias"
    ),
    "transformer.encoder.layers.2.norm2.weight": "encoder.layers.2.self_attention_norm.weight",
    "transformer.encoder.layers.2.norms.0.weight": "encoder.layers.2.deformable_attention_norm.weight",
    "transformer.encoder.layers.2.norms.1.weight": "encoder.layers.2.ffn_norm.weight",
    "transformer.encoder.layers.2.ffns.0.layers.0.0.bias": "encoder.layers.2.ffn.linear1.bias",
    "transformer.decoder.layers.5.norms.0.weight": "host.decoder.layers.5.self_attention_norm.weight",
    "transformer.decoder.layers.5.norms.1.weight": "host.decoder.layers.5.cross_attention_norm.weight",
    "transformer.decoder.layers.5.norms.2.weight": "host.decoder.layers.5.ffn_norm.weight",
    "transformer.decoder.layers.5.attentions.1.output_proj.weight": (
        "host.decoder.layers.5.cross_attention.output_proj.weight"
    ),
    "transformer.decoder.layers.5.ffns.0.layers.1.weight": "host.decoder.layers.5.ffn.linear2.weight",
    "transformer.decoder.ref_point_head.layers.1.bias": "host.decoder.position_mlp.layers.1.bias",
    "class_embed.5.weight": "host.class_heads.5.weight",
    "class_embed.6.weight": "proposals.class_head.weight",
    "bbox_embed.6.layers.2.bias": "proposals.box_head.layers.2.bias",
    "bbox_embed.0.layers.1.bias": "host.box_heads.0.layers.1.bias",
    "transformer.enc_output_norm.bias": "proposals.norm.bias",
    "transformer.tgt_embed.weight": "host.query_content.weight",
    "label_enc.weight": "host.label_embedding.weight",
}

DINO_NAMES = {
    "backbone.0.body.bn1.weight": "backbone.model.embedder.embedder.normalization.weight",
    "backbone.0.body.layer3.5.conv2.weight": (
        "backbone.model.encoder.stages.2.layers.5.layer.1.convolution.weight"
    ),
    "backbone.0.body.layer4.0.downsample.0.weight": (
        "backbone.model.encoder.stages.3.layers.0.shortcut.convolution.weight"
    ),
    "input_proj.3.1.weight": "neck.projections.3.norm.weight",
    "transformer.encoder.layers.4.norm1.weight": "encoder.layers.4.deformable_attention_norm.weight",
    "transformer.encoder.layers.4.norm2.weight": "encoder.layers.4.ffn_norm.weight",
    "transformer.decoder.layers.4.norm1.weight": "host.decoder.layers.4.cross_attention_norm.weight",
    "transformer.decoder.layers.4.norm2.weight": "host.decoder.layers.4.self_attention_norm.weight",
    "transformer.decoder.layers.4.norm3.weight": "host.decoder.layers.4.ffn_norm.weight",
    "transformer.decoder.layers.4.linear2.weight": "host.decoder.layers.4.ffn.linear2.weight",
    "transformer.enc_out_bbox_embed.layers.2.weight": "proposals.box_head.layers.2.weight",
    "class_embed.3.weight": "host.class_heads.3.weight",
}


def test_tensors_land_under_the_right_names():
    for state, rules, names in (
        (detrex_state("focus_detr_r50"), detrex.rules, DETREX_NAMES),
        (dino_state(), dino.rules, DINO_NAMES),
    ):
        result = apply_rules(state, rules(state), "checkpoint")
        for old, new in names.items():
            assert result.names[old] == [new]
            assert result.state[new] is state[old]


def test_dense_dino_of_detrex_has_its_deformable_attention_first():
    state = detrex_state("dino_r50")
    result = apply_rules(state, detrex.rules(state), "dino")
    name = "transformer.encoder.layers.1.attentions.0.sampling_offsets.weight"
    assert result.names[name] == ["encoder.layers.1.deformable_attention.sampling_offsets.weight"]
    assert not any("selector" in key or key.startswith("encoder.layers.0.self") for key in result.state)


def test_swin_projections_are_cut_in_order_and_computed_buffers_dropped():
    state = detrex_state("focus_detr_swin_tiny_224")
    key = "backbone.layers.1.blocks.0.attn.qkv.bias"
    state[key] = torch.arange(576.0)
    state["backbone.layers.1.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    result = apply_rules(state, detrex.rules(state), "swin")
    prefix = "backbone.model.swin.encoder.layers.1.blocks.0.attention."
    for number, part in enumerate("qkv"):
        expected = torch.arange(192.0) + 192 * number
        assert torch.equal(result.state[f"{prefix}{part}_proj.bias"], expected)
    assert result.unknown == []
    assert result.names["backbone.norm1.weight"] == ["backbone.model.hidden_states_norms.stage2.weight"]
    assert [key for key in result.dropped if "index" in key] == [
        "backbone.layers.1.blocks.0.attn.relative_position_index"
    ]


@pytest.mark.parametrize(
    "alias", ["enhance_MCSP_layerlist.3.bias", "transformer.decoder.bbox_embed.2.layers.0.bias"]
)
def test_a_copy_that_differs_is_named(alias):
    state = detrex_state("focus_detr_r50")
    state[alias] = state[alias] + 1
    with pytest.raises(FocusDetrError, match=rf"file\.pth: {alias}.*differs"):
        apply_rules(state, detrex.rules(state), "file.pth")
    del state[alias.replace("enhance_MCSP_layerlist.3", "class_embed.6").replace("transformer.decoder.", "")]
    with pytest.raises(FocusDetrError, match="not there"):
        apply_rules(state, detrex.rules(state), "file.pth")


def test_a_file_written_key_by_key_gives_what_the_original_would_load():
    layout = json.loads((DATA / "focus_detr_r50.layout.json").read_text())
    keys = [key for key in layout if re.match(r"(transformer\.|enhance|class_embed|bbox_embed)", key)]
    state = {key: torch.from_numpy(make(key, *layout[key])) for key in keys}
    result = apply_rules(state, detrex.rules(state), "file.pth")
    assert "last key" in result.notes[0]
    assert torch.equal(result.state["proposals.class_head.weight"], state["enhance_MCSP_layerlist.5.weight"])
    assert torch.equal(result.state["host.class_heads.0.weight"], state["class_embed.0.weight"])


def test_rules_refuse_collisions_and_uneven_cuts():
    state = {"a": torch.zeros(4), "b": torch.zeros(4)}
    with pytest.raises(FocusDetrError, match="both become c"):
        apply_rules(state, [Rule("[ab]", "c")], "f")
    with pytest.raises(FocusDetrError, match=r"a of shape \[4\]"):
        apply_rules(state, [Rule("a", "{part}", split=("x", "y", "z"))], "f")
    assert apply_rules(state, [Rule("a", "c")], "f").unknown == ["b"]


def test_an_unknown_backbone_is_refused():
    state = detrex_state("focus_detr_r50")
    state = {key: value for key, value in state.items() if not key.startswith("backbone.res4.5.")}
    renamed = apply_rules(state, detrex.rules(state), "f").state
    with pytest.raises(FocusDetrError, match=r"3, 4, 5, 3.*resnet50"):
        detect_backbone(renamed, "f")


def test_coco_rows_follow_category_ids():
    state = dino_state()
    ids = torch.arange(92.0)
    state["class_embed.2.bias"] = state["transformer.decoder.class_embed.2.bias"] = ids[:91]
    state["transformer.enc_out_class_embed.bias"] = ids[:91]
    state["label_enc.weight"] = ids[:, None].expand(92, 256)
    renamed = apply_rules(state, dino.rules(state), "dino").state
    ours, notes = dino.adapt(renamed, None)
    for value in (
        ours["host.class_heads.2.bias"],
        ours["proposals.class_head.bias"],
        ours["host.label_embedding.weight"][:, 0],
    ):
        assert value.tolist() == list(COCO_CATEGORY_IDS)
    assert len(notes) == 2
    whole, _ = dino.adapt(renamed, 91)
    assert len(whole["proposals.class_head.bias"]) == 91 == len(whole["host.label_embedding.weight"])


def test_a_head_saved_once_is_given_to_every_layer():
    state = dino_state()
    copies = re.compile(r"transformer\.decoder\.(class|bbox)_embed\..*|(class|bbox)_embed\.[1-5]\..*")
    shared = {key: value for key, value in state.items() if not copies.fullmatch(key)}
    shared["class_embed.0.bias"] = torch.arange(91.0)
    ours, notes = dino.adapt(apply_rules(shared, dino.rules(shared), "dino").state, 91)
    full, _ = dino.adapt(apply_rules(state, dino.rules(state), "dino").state, 91)
    assert ours.keys() == full.keys()
    assert torch.equal(ours["host.class_heads.5.bias"], torch.arange(91.0))
    assert any("host.class_heads.5.bias" in note for note in notes)


@pytest.mark.parametrize(("two_stage", "refined"), [(False, False), (False, True), (True, True)])
def test_every_key_of_detrex_deformable_is_accounted_for(two_stage, refined):
    state = detrex_deformable_state(two_stage, refined)
    layout = detect_layout(state, "deformable")
    assert layout.name == "deformable-detr (detrex)"
    variant = {"two_stage": two_stage, "box_refinement": refined}
    assert layout.host_options(state) == {**variant, "logit_eps": 1e-3}
    assert layout.fields["class_loss_coefficient"] == 1  # the original's is 2
    result = apply_rules(state, layout.rules(state), "deformable")
    assert result.unknown == [] and set(result.names) | set(result.dropped) == set(state)
    made, _ = layout.adapt(result.state, None)
    fields = {"host_options": layout.host_options(state), "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}
    config = FocusDetrConfig.from_preset("deformable-detr-r50", **fields)
    with torch.device("meta"):
        expected = FocusDetrForObjectDetection(config).state_dict()
    assert {key: value.shape for key, value in made.items()} == {k: v.shape for k, v in expected.items()}


def test_every_dn_deformable_key_is_accounted_for():
    state = dn_deformable_state()
    result = apply_rules(state, detrex.dn_deformable_rules(state), "dn")
    assert result.unknown == []
    assert set(result.names) | set(result.dropped) == set(state)
    assert all(reason.startswith("copy of bbox_embed") for reason in result.dropped.values())
    layout = detect_layout(state, "dn")
    assert (layout.host, layout.token_policy) == ("dn-deformable-detr", "dense")


@pytest.mark.parametrize("key_aware", [True, False])
def test_every_key_of_lite_dino_is_accounted_for(key_aware):
    name = "lite_dino_r50" if key_aware else "lite_dino_r50_plain"
    state = detrex_state(name)
    aliases = json.loads((DATA / f"{name}.aliases.json").read_text())
    assert len(aliases) == 88
    state |= {alias: state[key] for alias, key in aliases.items()}  # as the original saves it
    layout = detect_layout(state, "lite")
    assert (layout.name, layout.token_policy) == ("lite-dino (original)", "interleaved")
    attention = {"key_aware": key_aware, "own_keys": False}
    assert layout.host_options(state) == attention
    assert layout.policy_options(state) == {**attention, "small_ffn": True, "blocks": 3}
    result = apply_rules(state, layout.rules(state), "lite")
    assert result.unknown == [] and set(result.names) | set(result.dropped) == set(state)
    copies = {key for key, reason in result.dropped.items() if reason.startswith("copy of")}
    assert copies == {key for key in aliases if key.startswith("transformer.")}
    assert len(result.dropped) - len(copies) == (
        0 if key_aware else 24
    )  # query_proj, which only keys ask for
    layer = "encoder.layers.3"
    assert result.names[f"transformer.{layer}.linear22.bias"] == [f"{layer}.low_ffn.linear2.bias"]
    assert result.names[f"transformer.{layer}.norm22.bias"] == [f"{layer}.low_ffn_norm.bias"]


def test_variants_of_lite_dino_show_in_their_tensors():
    state = detrex_state("lite_dino_r50")
    low = re.compile(r".*\.layers\.\d\.(linear12|linear22|norm22)\..*")
    one_block = {key: value for key, value in state.items() if not low.fullmatch(key) or ".layers.5." in key}
    assert lite_dino.policy_options(one_block)["blocks"] == 1  # H3L1-(6+1)x1
    without = {key: value for key, value in state.items() if not low.fullmatch(key)}
    said = lite_dino.policy_options(without)
    assert not said["small_ffn"] and "blocks" not in said
    for key in list(state):
        if ".query_proj." in key:
            state[key.replace(".query_proj.", ".key_proj.")] = state[key]
    assert lite_dino.host_options(state) == {"key_aware": True, "own_keys": True}
    result = apply_rules(state, lite_dino.rules(state), "lite")
    name = "transformer.decoder.layers.2.cross_attn.key_proj.bias"
    assert result.names[name] == ["host.decoder.layers.2.cross_attention.key_proj.bias"]


def test_every_key_of_salience_detr_is_accounted_for():
    state = detrex_state("salience_detr_r50")
    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for key in state
        if key.endswith("running_mean")
    }
    frequencies = {f"position_embedding.dim_t{axis}": torch.zeros(128) for axis in "xy"}
    ratios = {f"transformer.{name}_filter_ratio": torch.zeros(4) for name in ("level", "layer")}
    names = {"_classes_": torch.zeros(5, dtype=torch.int64)}
    state |= counters | frequencies | ratios | names
    aliases = json.loads((DATA / "salience_detr_r50.aliases.json").read_text())
    assert set(aliases) < set(state)  # as the original saves it
    state["transformer.alpha"] = torch.tensor([1.0, 2.0, 3.0])
    layout = detect_layout(state, "salience")
    assert (layout.host, layout.token_policy) == ("salience-detr", "salience")
    assert [name for name, on in layout.quirks.items() if not on] == [
        "unmasked_evaluation", "naive_focal", "shifted_attention_map"
    ]  # fmt: skip
    result = apply_rules(state, layout.rules(state), "salience")
    assert result.unknown == [] and set(result.names) | set(result.dropped) == set(state)
    assert {*frequencies, *ratios, *names, *aliases} < set(result.dropped)
    for old, new in {
        "transformer.neck.lateral_convs.1.1.running_var": "host.fusion.laterals.1.norm.running_var",
        "transformer.neck.pan_blocks.2.conv2.0.weight": "host.fusion.bottom_up.2.shortcut.conv.weight",
        "transformer.neck.layer_blocks.0.bottlenecks.2.conv1.1.bias": (
            "host.fusion.top_down.0.blocks.2.wide.norm.bias"
        ),
        "transformer.neck.layer_blocks.0.bottlenecks.1.se_module.se_module.2.weight": (
            "host.fusion.top_down.0.blocks.1.gate.excite.weight"
        ),
        "transformer.encoder.layers.2.pre_norm.bias": "encoder.layers.2.self_attention_norm.bias",
        "transformer.encoder.background_embedding.col_embed.weight": "encoder.background.columns",
    }.items():
        assert result.names[old] == [new]
    ours, notes = layout.adapt(result.state, 91)
    # Ours begins with the coarsest level.
    assert ours["encoder.selector.modulation"].tolist() == [3.0, 2.0, 1.0]
    assert not ours["neck.projections.2.conv.bias"].any()
    config = FocusDetrConfig.from_preset("salience-detr-r50", num_labels=91)
    with torch.device("meta"):
        expected = FocusDetrForObjectDetection(config).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {k: v.shape for k, v in expected.items()}
    assert config.foreground_loss_coefficient == layout.fields["foreground_loss_coefficient"]
    # Batches that were counted stay counted; a file that does not count them begins with none.
    assert ours["host.fusion.downs.0.norm.num_batches_tracked"] == 7
    for key in counters:
        del state[key]
    uncounted, _ = layout.adapt(apply_rules(state, layout.rules(state), "salience").state, 91)
    assert uncounted["host.fusion.downs.0.norm.num_batches_tracked"] == 0
    eighty, _ = layout.adapt(result.state, None)
    assert len(eighty["proposals.class_head.bias"]) == len(eighty["host.label_embedding.weight"]) == 80


@pytest.mark.parametrize("pnp", [True, False])
def test_every_detr_key_is_accounted_for(pnp):
    name = "pnp_detr_r50"
    state = {key: value for key, value in detrex_state(name).items() if pnp or "sampler" not in key}
    result = apply_rules(state, detr.rules(state), name)
    assert result.unknown == [] and result.dropped == {}
    assert set(result.names) == set(state)
    assert detr.is_detr(state) and detr.is_pnp(state) == pnp
    layout = detect_layout(state, name)
    assert layout.token_policy == ("poll-and-pool" if pnp else "full-attention")


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("deformable", "sparse"))])
def test_every_deformable_key_is_accounted_for(name):
    state = detrex_state(name)
    result = apply_rules(state, deformable.rules(state), name)
    assert result.unknown == []
    assert set(result.names) | set(result.dropped) == set(state)
    assert all(reason.startswith("copy of") for reason in result.dropped.values())
    assert detect_backbone(result.state, name) == "resnet50"
    assert deformable.is_deformable(state) and deformable.is_sparse(state) == name.startswith("sparse")

"""Layout of `transformers`' DeformableDetrForObjectDetection, in memory, on disk, and on the Hub."""

import re
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from focus_detr.convert.backbones import torchvision_resnet
from focus_detr.convert.rules import Rule
from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.catalogue import backbone_config

_BACKBONE = r"model\.backbone\.(?:conv_encoder\.)?model\."
# What the model does with other values than these, our host does not.
_SUPPORTED = {
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "dilation": False,
    "encoder_layerdrop": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}


def is_transformers_deformable(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` has the names of transformers' Deformable DETR."""
    return "model.level_embed" in state and "model.decoder.layers.0.encoder_attn.value_proj.weight" in state


def is_two_stage(state: dict[str, Tensor]) -> bool:
    """Whether queries come from proposals."""
    return "model.pos_trans.weight" in state


def is_refined(state: dict[str, Tensor]) -> bool:
    """Whether each decoder layer refines the boxes of the one before."""
    return any(key.startswith("model.decoder.bbox_embed.") for key in state)


def host_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """The variant, as options of the host."""
    return {"two_stage": is_two_stage(state), "box_refinement": is_refined(state)}


def fields(settings: dict[str, Any]) -> dict[str, Any]:
    """Fields of our configuration from the model's own, as in its ``config.json``.

    Raises:
        FocusDetrError: it asks for what this package does not have.
    """
    for name, value in _SUPPORTED.items():
        if settings.get(name, value) != value:
            raise FocusDetrError(f"config.json: {name}={settings[name]!r} is not supported, only {value!r}")
    if settings.get("d_model", 256) < 128:
        raise FocusDetrError(
            f"config.json: d_model={settings['d_model']} is not supported: its neck normalises 32 groups of "
            "channels, ours fewer of them where there are less than 128 channels"
        )
    heads = {settings.get(f"{part}_attention_heads", 8) for part in ("encoder", "decoder")}
    points = {settings.get(f"{part}_n_points", 4) for part in ("encoder", "decoder")}
    if len(heads) > 1 or len(points) > 1:
        raise FocusDetrError(
            f"config.json: encoder and decoder need as many attention heads ({heads}) and points ({points})"
        )
    two_stage = settings.get("two_stage", False)
    names = {
        "dropout": settings.get("dropout", 0.1),
        "attention_heads": heads.pop(),
        "num_queries": settings.get("two_stage_num_proposals" if two_stage else "num_queries", 300),
        "class_cost": settings.get("class_cost", 1),
        "bbox_cost": settings.get("bbox_cost", 5),
        "giou_cost": settings.get("giou_cost", 2),
        "class_loss_coefficient": 1.0,  # its loss has no other
        "bbox_loss_coefficient": settings.get("bbox_loss_coefficient", 5),
        "giou_loss_coefficient": settings.get("giou_loss_coefficient", 2),
        "focal_alpha": settings.get("focal_alpha", 0.25),
    }
    backbone = _backbone(settings)
    return names if backbone is None else {**names, "backbone_config": backbone}


def _backbone(settings: dict[str, Any]) -> dict[str, Any] | PreTrainedConfig | None:
    # None where the tensors say enough: timm's ResNet with maps of three strides.
    backbone = settings.get("backbone_config") or {}
    kind = backbone.get("model_type", "timm_backbone")
    if kind == "resnet":
        return {key: backbone[key] for key in _RESNET if key in backbone}
    if kind != "timm_backbone":
        raise FocusDetrError(f"config.json: a backbone of {kind!r} is not supported, only a ResNet")
    if settings.get("num_feature_levels", 4) > 1:
        return None
    return backbone_config(backbone.get("backbone") or settings.get("backbone") or "resnet50", outputs=1)


_RESNET = (
    "model_type", "depths", "hidden_sizes", "embedding_size", "layer_type", "hidden_act", "out_features",
    "downsample_in_first_stage", "downsample_in_bottleneck", "num_channels",
)  # fmt: skip


def class_names(settings: dict[str, Any]) -> list[str] | None:
    """Names by label, each of its own: COCO's unused ids are all called N/A on the Hub."""
    labels = settings.get("id2label")
    if not labels:
        return None
    named = [str(labels[key]) for key in sorted(labels, key=int)]
    return [name if named.count(name) == 1 else f"unused {i}" for i, name in enumerate(named)]


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from its names to ours; queries, keys and values are joined afterwards."""
    encoder, decoder = r"model\.encoder\.layers\.(\d+)\.", r"model\.decoder\.layers\.(\d+)\."
    ours = r"host.decoder.layers.\1."
    rules = [
        Rule(r".*\.num_batches_tracked", reason="counts batches, which frozen norms do not"),
        *torchvision_resnet(_BACKBONE),
        Rule(_BACKBONE + r"((?:embedder|encoder)\..*)", r"backbone.model.\1"),
        Rule(r"model\.input_proj\.(\d+)\.0\.(.*)", r"neck.projections.\1.conv.\2"),
        Rule(r"model\.input_proj\.(\d+)\.1\.(.*)", r"neck.projections.\1.norm.\2"),
        Rule(r"model\.level_embed", "level_embedding"),
        Rule(encoder + r"self_attn\.(.*)", r"encoder.layers.\1.deformable_attention.\2"),
        Rule(encoder + r"self_attn_layer_norm\.(.*)", r"encoder.layers.\1.deformable_attention_norm.\2"),
        Rule(encoder + r"(?:mlp\.)?fc([12])\.(.*)", r"encoder.layers.\1.ffn.linear\2.\3"),
        Rule(encoder + r"final_layer_norm\.(.*)", r"encoder.layers.\1.ffn_norm.\2"),
        Rule(decoder + r"self_attn\.o(?:ut)?_proj\.(.*)", ours + r"self_attention.out_proj.\2"),
        Rule(decoder + r"self_attn\.([qkv]_proj\..*)", ours + r"self_attention.\2"),
        Rule(decoder + r"self_attn_layer_norm\.(.*)", ours + r"self_attention_norm.\2"),
        Rule(decoder + r"encoder_attn\.(.*)", ours + r"cross_attention.\2"),
        Rule(decoder + r"encoder_attn_layer_norm\.(.*)", ours + r"cross_attention_norm.\2"),
        Rule(decoder + r"(?:mlp\.)?fc([12])\.(.*)", ours + r"ffn.linear\2.\3"),
        Rule(decoder + r"final_layer_norm\.(.*)", ours + r"ffn_norm.\2"),
        Rule(r"model\.enc_output\.(.*)", r"proposals.projection.\1"),
        Rule(r"model\.enc_output_norm\.(.*)", r"proposals.norm.\1"),
        Rule(r"model\.pos_trans\.(.*)", r"host.query_projection.\1"),
        Rule(r"model\.pos_trans_norm\.(.*)", r"host.query_norm.\1"),
        Rule(r"model\.reference_points\.(.*)", r"host.query_point.\1"),
        Rule(r"model\.query_position_embeddings\.weight", "host.query_position_and_content.weight"),
    ]
    for kind, ours in (("class", "class_heads"), ("bbox", "box_heads")):
        rules += _head_rules(state, kind, ours)
    return rules


def _head_rules(state: dict[str, Tensor], kind: str, ours: str) -> list[Rule]:
    # What shares storage is saved once, under either of its names.
    below = rf"model\.decoder\.{kind}_embed\.(\d+)\.(.*)"
    above = any(key.startswith(f"{kind}_embed.") for key in state)
    rules = [Rule(below, alias_of=rf"{kind}_embed.\1.\2")] if above else []
    original = rf"{kind}_embed\." if above else rf"model\.decoder\.{kind}_embed\."
    layers = len({key.split(".")[3] for key in state if key.startswith("model.decoder.layers.")})
    if is_two_stage(state):
        first = kind.replace("bbox", "box")
        rules.append(Rule(original + rf"{layers}\.(.*)", rf"proposals.{first}_head.\1"))
    if not is_refined(state):
        rules.append(Rule(rf"{kind}_embed\.[1-9]\d*\.(.*)", alias_of=rf"{kind}_embed.0.\1"))
    return [*rules, Rule(original + r"(\d+)\.(.*)", rf"host.{ours}.\1.\2")]


def adapt(state: dict[str, Tensor], num_labels: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """Make a renamed state dict ours: joined projections, two tables of queries, heads for every layer."""
    state, notes = dict(state), []
    for key in [key for key in state if ".self_attention.q_proj." in key]:
        parts = [state.pop(key.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        # in_proj_weight, in_proj_bias
        state[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    both = state.pop("host.query_position_and_content.weight", None)
    if both is not None:
        position, content = (part.contiguous() for part in torch.chunk(both, 2, dim=1))
        state |= {"host.query_position.weight": position, "host.query_content.weight": content}
        notes.append("query_position_embeddings: their first half are positions, the second contents")
    layers = {match[1] for key in state if (match := re.match(r"host\.decoder\.layers\.(\d+)\.", key))}
    refined = "host.box_heads.1.layers.0.weight" in state
    shared = [key for key in state if re.match(r"host\.(?:class|box)_heads\.0\.", key)]
    for key in shared if refined else []:
        for layer in sorted(layers):
            copy = key.replace("_heads.0.", f"_heads.{layer}.")
            if copy not in state:
                state[copy] = state[key].clone()
                notes.append(f"{copy}: copied from the head that all layers share")
    if "proposals.projection.weight" in state and "proposals.class_head.weight" not in state:
        for name in ("weight", "bias"):
            state[f"proposals.class_head.{name}"] = state[f"host.class_heads.0.{name}"].clone()
        notes.append("proposals.class_head: copied from the head that all layers share")
    return state, notes

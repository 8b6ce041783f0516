"""Layout of Salience-DETR (xiuqhou) with torchvision's ResNet."""

import re

import torch
from torch import Tensor

from focus_detr.convert import dino
from focus_detr.convert.backbones import torchvision_resnet
from focus_detr.convert.rules import Rule

# Places of a fusion stage's or block's parts, to their names.
_FUSION = {
    "lateral_convs": "laterals",
    "downsample_blocks": "downs",
    "layer_blocks": "top_down",
    "pan_blocks": "bottom_up",
}
_STAGE = {"conv1": "main", "conv2": "shortcut"}
_BLOCK = {"conv1": "wide", "conv2": "narrow"}
_GATE = {"conv_mask": "score", "se_module.0": "squeeze", "se_module.2": "excite"}
_LAYER = {"0": "conv", "1": "norm"}


def is_salience(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` has Salience-DETR's names."""
    return "transformer.encoder.enhance_mcsp.weight" in state and "neck.convs.0.0.weight" in state


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from its names to ours."""
    scorer, encoder = r"transformer\.enc_mask_predictor\.", r"transformer\.encoder\."
    layer = encoder + r"layers\.(\d+)\."
    return [
        Rule(r"position_embedding\.dim_t[xy]", reason="frequencies follow from the temperature"),
        Rule(r"transformer\.(level|layer)_filter_ratio", reason="are options of the token policy"),
        Rule(r"_classes_", reason="names of the classes, as text"),
        *torchvision_resnet(r"backbone\."),
        Rule(r"neck\.convs\.(\d+)\.0\.(weight)", r"neck.projections.\1.conv.\2"),
        Rule(r"neck\.convs\.(\d+)\.1\.(.*)", r"neck.projections.\1.norm.\2"),
        Rule(r"transformer\.level_embeds", "level_embedding"),
        Rule(r"transformer\.alpha", "encoder.selector.modulation"),
        Rule(scorer + r"layer1\.0\.(.*)", r"encoder.selector.norm.\1"),
        Rule(scorer + r"layer1\.1\.(.*)", r"encoder.selector.project.\1"),
        Rule(scorer + r"layer2\.([024]\..*)", r"encoder.selector.score.\1"),
        Rule(encoder + r"enhance_mcsp\.(.*)", alias_of=r"transformer.encoder_class_head.\1"),
        Rule(layer + r"pre_attention\.(.*)", r"encoder.layers.\1.self_attention.\2"),
        Rule(layer + r"pre_norm\.(.*)", r"encoder.layers.\1.self_attention_norm.\2"),
        Rule(encoder + r"background_embedding\.row_embed\.weight", "encoder.background.rows"),
        Rule(encoder + r"background_embedding\.col_embed\.weight", "encoder.background.columns"),
        Rule(r"transformer\.encoder_class_head\.(.*)", r"proposals.class_head.\1"),
        Rule(r"transformer\.encoder_bbox_head\.(layers\..*)", r"proposals.box_head.\1"),
        Rule(r"transformer\.tgt_embed\.weight", "host.query_content.weight"),
        Rule(r"denoising_generator\.label_encoder\.weight", "host.label_embedding.weight"),
        Rule(r"transformer\.decoder\.ref_point_head\.(layers\..*)", r"host.decoder.position_mlp.\1"),
        Rule(r"transformer\.decoder\.norm\.(.*)", r"host.decoder.norm.\1"),
        Rule(r"transformer\.decoder\.class_head\.(\d+)\.(.*)", r"host.class_heads.\1.\2"),
        Rule(r"transformer\.decoder\.bbox_head\.(\d+)\.(layers\..*)", r"host.box_heads.\1.\2"),
        *_fusion_rules(),
        *dino.transformer_rules(),
    ]


def _fusion_rules() -> list[Rule]:
    neck = r"transformer\.neck\.(\w+)\.(\d+)\."
    block = neck + r"bottlenecks\.(\d+)\."
    return [
        Rule(neck + r"([01])\.(\w+)", lambda m: f"{_part(m)}.{_LAYER[m[3]]}.{m[4]}"),
        Rule(
            neck + r"(conv[12])\.([01])\.(\w+)", lambda m: f"{_part(m)}.{_STAGE[m[3]]}.{_LAYER[m[4]]}.{m[5]}"
        ),
        Rule(
            block + r"(conv[12])\.([01])\.(\w+)",
            lambda m: f"{_part(m)}.blocks.{m[3]}.{_BLOCK[m[4]]}.{_LAYER[m[5]]}.{m[6]}",
        ),
        Rule(
            block + r"se_module\.(conv_mask|se_module\.[02])\.(\w+)",
            lambda m: f"{_part(m)}.blocks.{m[3]}.gate.{_GATE[m[4]]}.{m[5]}",
        ),
    ]


def _part(match: re.Match[str]) -> str:
    return f"host.fusion.{_FUSION[match[1]]}.{match[2]}"


def adapt(state: dict[str, Tensor], num_labels: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """Make a renamed state dict ours: class rows by label, as DINO's, and what its modules have otherwise."""
    state, notes = dino.adapt(state, num_labels)
    # Here it counts from the coarsest level on.
    state["encoder.selector.modulation"] = state["encoder.selector.modulation"].flip(0)
    notes.append("alpha: its values are those of the levels, fine to coarse; ours begin with the coarsest")
    for key in [key for key in state if re.fullmatch(r"neck\.projections\.\d+\.norm\.bias", key)]:
        state[key.replace(".norm.", ".conv.")] = torch.zeros_like(state[key])
    notes.append("neck: its convolutions have no bias; ours have one, of zeros")
    for key, value in list(state.items()):
        if key.startswith("host.fusion.") and re.search(r"\.(squeeze|excite)\.", key):
            state[key] = value.flatten(1)  # 1x1 convolutions of one cell
        if key.startswith("host.fusion.") and key.endswith(".running_mean"):
            state.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return state, notes

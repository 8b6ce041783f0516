"""Layouts of detrex: Focus-DETR and DINO with ResNet or Swin, Deformable DETR, DN-Deformable-DETR."""

from typing import Any

from torch import Tensor

from focus_detr.convert.backbones import DETECTRON2_RESNET, swin_rules
from focus_detr.convert.rules import Rule

MSDA = r"(sampling_offsets|attention_weights|value_proj|output_proj)\.(weight|bias)"


def is_detrex(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` has detrex' names."""
    return "neck.convs.0.conv.weight" in state and "transformer.level_embeds" in state


def is_focus(state: dict[str, Tensor]) -> bool:
    """Whether a detrex checkpoint is Focus-DETR and not DINO."""
    return "transformer.alpha" in state


def is_dn_deformable(state: dict[str, Tensor]) -> bool:
    """Whether a detrex checkpoint is DN-Deformable-DETR."""
    return "denoising_generator.label_encoder.weight" in state and "refpoint_embed.weight" in state


def is_deformable(state: dict[str, Tensor]) -> bool:
    """Whether a detrex checkpoint is Deformable DETR."""
    return "query_embedding.weight" in state or "transformer.pos_trans.weight" in state


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from the names of Focus-DETR and DINO to ours."""
    last = sum(key.startswith("class_embed.") and key.endswith(".weight") for key in state) - 1
    return [
        # The category scores of all encoder layers come from the head that selects queries.
        Rule(r"enhance_MCSP_layerlist\.\d+\.(.*)", alias_of=rf"class_embed.{last}.\1"),
        Rule(r"transformer\.encoder\.enhance_MCSP\.\d+\.(.*)", alias_of=rf"class_embed.{last}.\1"),
        Rule(rf"class_embed\.{last}\.(.*)", r"proposals.class_head.\1"),
        Rule(rf"bbox_embed\.{last}\.(layers\..*)", r"proposals.box_head.\1"),
        Rule(r"transformer\.tgt_embed\.weight", "host.query_content.weight"),
        Rule(r"label_enc\.weight", "host.label_embedding.weight"),
        *shared_rules(state),
    ]


def deformable_rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from the names of Deformable DETR to ours."""
    rules = []
    if "transformer.pos_trans.weight" in state:
        last = sum(key.startswith("class_embed.") and key.endswith(".weight") for key in state) - 1
        rules += [
            Rule(rf"class_embed\.{last}\.(.*)", r"proposals.class_head.\1"),
            Rule(rf"bbox_embed\.{last}\.(layers\..*)", r"proposals.box_head.\1"),
        ]
    if not deformable_options(state)["box_refinement"]:
        # All layers have one head, saved once for each of them.
        rules.append(Rule(r"((?:class|bbox)_embed)\.[1-9]\d*\.(.*)", alias_of=r"\1.0.\2"))
    return [
        *rules,
        Rule(r"transformer\.pos_trans\.(.*)", r"host.query_projection.\1"),
        Rule(r"transformer\.pos_trans_norm\.(.*)", r"host.query_norm.\1"),
        Rule(r"transformer\.reference_points\.(.*)", r"host.query_point.\1"),
        Rule(r"query_embedding\.weight", "host.query_position_and_content.weight"),
        *shared_rules(state),
    ]


def deformable_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """The variant of Deformable DETR, as options of the host."""
    refined = any(key.startswith("transformer.decoder.bbox_embed.") for key in state)
    two_stage = "transformer.pos_trans.weight" in state
    return {"two_stage": two_stage, "box_refinement": refined, "logit_eps": 1e-3}


def dn_deformable_rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from the names of DN-Deformable-DETR to ours."""
    return [
        Rule(r"tgt_embed\.weight", "host.query_content.weight"),
        Rule(r"refpoint_embed\.weight", "host.query_anchor.weight"),
        Rule(r"denoising_generator\.label_encoder\.weight", "host.label_embedding.weight"),
        Rule(r"transformer\.decoder\.query_scale\.(layers\..*)", r"host.decoder.position_scale.\1"),
        *shared_rules(state),
    ]


def shared_rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules that all of detrex' DETRs share: backbone, neck, encoder, decoder and its heads."""
    levels = sum(key.startswith("neck.convs.") and key.endswith(".conv.weight") for key in state)
    encoder, decoder = r"transformer\.encoder\.layers\.(\d+)\.", r"transformer\.decoder\.layers\.(\d+)\."
    return [
        Rule(r"transformer\.decoder\.((?:class|bbox)_embed\..*)", alias_of=r"\1"),
        *DETECTRON2_RESNET,
        *swin_rules(r"backbone\."),
        Rule(r"neck\.convs\.(\d+)\.((?:conv|norm)\..*)", r"neck.projections.\1.\2"),
        Rule(
            r"neck\.extra_convs\.(\d+)\.((?:conv|norm)\..*)",
            lambda match: f"neck.projections.{int(match[1]) + levels}.{match[2]}",
        ),
        Rule(r"transformer\.level_embeds", "level_embedding"),
        Rule(r"transformer\.alpha", "encoder.selector.modulation"),
        Rule(r"transformer\.enc_mask_predictor\.layer1\.0\.(.*)", r"encoder.selector.norm.\1"),
        Rule(r"transformer\.enc_mask_predictor\.layer1\.1\.(.*)", r"encoder.selector.project.\1"),
        Rule(r"transformer\.enc_mask_predictor\.layer2\.([024]\..*)", r"encoder.selector.score.\1"),
        Rule(encoder + r"attentions\.0\.attn\.(.*)", r"encoder.layers.\1.self_attention.\2"),
        Rule(encoder + r"norm2\.(.*)", r"encoder.layers.\1.self_attention_norm.\2"),
        Rule(encoder + rf"attentions\.[01]\.{MSDA}", r"encoder.layers.\1.deformable_attention.\2.\3"),
        Rule(encoder + r"norms\.0\.(.*)", r"encoder.layers.\1.deformable_attention_norm.\2"),
        Rule(encoder + r"norms\.1\.(.*)", r"encoder.layers.\1.ffn_norm.\2"),
        Rule(decoder + r"attentions\.0\.attn\.(.*)", r"host.decoder.layers.\1.self_attention.\2"),
        Rule(decoder + r"norms\.0\.(.*)", r"host.decoder.layers.\1.self_attention_norm.\2"),
        Rule(decoder + rf"attentions\.1\.{MSDA}", r"host.decoder.layers.\1.cross_attention.\2.\3"),
        Rule(decoder + r"norms\.1\.(.*)", r"host.decoder.layers.\1.cross_attention_norm.\2"),
        Rule(decoder + r"norms\.2\.(.*)", r"host.decoder.layers.\1.ffn_norm.\2"),
        Rule(encoder + r"ffns\.0\.layers\.0\.0\.(.*)", r"encoder.layers.\1.ffn.linear1.\2"),
        Rule(encoder + r"ffns\.0\.layers\.1\.(.*)", r"encoder.layers.\1.ffn.linear2.\2"),
        Rule(decoder + r"ffns\.0\.layers\.0\.0\.(.*)", r"host.decoder.layers.\1.ffn.linear1.\2"),
        Rule(decoder + r"ffns\.0\.layers\.1\.(.*)", r"host.decoder.layers.\1.ffn.linear2.\2"),
        Rule(r"transformer\.decoder\.ref_point_head\.(layers\..*)", r"host.decoder.position_mlp.\1"),
        Rule(r"transformer\.decoder\.norm\.(.*)", r"host.decoder.norm.\1"),
        Rule(r"transformer\.enc_output\.(.*)", r"proposals.projection.\1"),
        Rule(r"transformer\.enc_output_norm\.(.*)", r"proposals.norm.\1"),
        Rule(r"class_embed\.(\d+)\.(.*)", r"host.class_heads.\1.\2"),
        Rule(r"bbox_embed\.(\d+)\.(layers\..*)", r"host.box_heads.\1.\2"),
    ]

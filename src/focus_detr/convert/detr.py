"""Layouts of the original DETR (facebookresearch) and of PnP-DETR (twangnh)."""

from typing import Any

from torch import Tensor

from focus_detr.convert.backbones import TORCHVISION_RESNET, swin_rules
from focus_detr.convert.rules import Rule


def is_detr(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` has the original DETR's names."""
    return (
        "transformer.decoder.layers.0.multihead_attn.in_proj_weight" in state and "input_proj.weight" in state
    )


def is_pnp(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint of this layout is PnP-DETR."""
    return "transformer.sampler.score_pred_net.0.weight" in state


def policy_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """Options of the poll-and-pool policy."""
    return {"abstract_tokens": len(state["transformer.sampler.k_proj.weight"])}


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from the originals' names to ours."""
    encoder, decoder = r"transformer\.encoder\.layers\.(\d+)\.", r"transformer\.decoder\.layers\.(\d+)\."
    ours = r"host.decoder.layers.\1."
    return [
        *TORCHVISION_RESNET,
        *swin_rules(r"backbone\.0\."),
        Rule(r"input_proj\.(.*)", r"neck.projections.0.conv.\1"),
        Rule(encoder + r"self_attn\.(.*)", r"encoder.layers.\1.self_attention.\2"),
        Rule(encoder + r"norm1\.(.*)", r"encoder.layers.\1.self_attention_norm.\2"),
        Rule(encoder + r"norm2\.(.*)", r"encoder.layers.\1.ffn_norm.\2"),
        Rule(encoder + r"(linear[12]\..*)", r"encoder.layers.\1.ffn.\2"),
        Rule(decoder + r"self_attn\.(.*)", ours + r"self_attention.\2"),
        Rule(decoder + r"norm1\.(.*)", ours + r"self_attention_norm.\2"),
        Rule(decoder + r"multihead_attn\.(.*)", ours + r"cross_attention.\2"),
        Rule(decoder + r"norm2\.(.*)", ours + r"cross_attention_norm.\2"),
        Rule(decoder + r"norm3\.(.*)", ours + r"ffn_norm.\2"),
        Rule(decoder + r"(linear[12]\..*)", ours + r"ffn.\2"),
        Rule(r"transformer\.decoder\.norm\.(.*)", r"host.decoder.norm.\1"),
        Rule(r"transformer\.sampler\.score_pred_net\.0\.(.*)", r"encoder.scorer.layers.0.\1"),
        Rule(r"transformer\.sampler\.score_pred_net\.2\.(.*)", r"encoder.scorer.layers.1.\1"),
        Rule(r"transformer\.sampler\.k_proj\.(.*)", r"encoder.pool_weights.\1"),
        Rule(r"transformer\.sampler\.v_proj\.(.*)", r"encoder.pool_values.\1"),
        Rule(r"query_embed\.weight", "host.query_position.weight"),
        Rule(r"class_embed\.(.*)", r"host.class_head.\1"),
        Rule(r"bbox_embed\.(layers\..*)", r"host.box_head.\1"),
    ]


def adapt(state: dict[str, Tensor], num_labels: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """Make a renamed state dict ours: the scorer's 1x1 convolutions are linear layers of each token."""
    flat = {
        key: value.flatten(1) if key.startswith("encoder.scorer.") and value.ndim == 4 else value
        for key, value in state.items()
    }
    return flat, []

"""Layout of the original DINO: shared decoder heads, and a row for each COCO category id."""

import re

from torch import Tensor

from focus_detr.convert.backbones import TORCHVISION_RESNET, swin_rules
from focus_detr.convert.coco import COCO_CATEGORY_IDS
from focus_detr.convert.detrex import MSDA
from focus_detr.convert.rules import Rule

# Its class heads have a row for each id from 0 to the largest, 11 of which name no category.
COCO_ROWS = max(COCO_CATEGORY_IDS) + 1


def is_dino(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` has the original DINO's names."""
    return "transformer.enc_out_class_embed.weight" in state and "transformer.level_embed" in state


def transformer_rules() -> list[Rule]:
    """Rules that Deformable DETR's code and all that grew from it share: neck, encoder, decoder layers."""
    encoder, decoder = r"transformer\.encoder\.layers\.(\d+)\.", r"transformer\.decoder\.layers\.(\d+)\."
    return [
        Rule(r"transformer\.decoder\.((?:class|bbox)_embed\..*)", alias_of=r"\1"),
        *TORCHVISION_RESNET,
        *swin_rules(r"backbone\.0\."),
        Rule(r"input_proj\.(\d+)\.0\.(.*)", r"neck.projections.\1.conv.\2"),
        Rule(r"input_proj\.(\d+)\.1\.(.*)", r"neck.projections.\1.norm.\2"),
        Rule(r"transformer\.level_embed", "level_embedding"),
        Rule(encoder + rf"self_attn\.{MSDA}", r"encoder.layers.\1.deformable_attention.\2.\3"),
        Rule(encoder + r"norm1\.(.*)", r"encoder.layers.\1.deformable_attention_norm.\2"),
        Rule(encoder + r"norm2\.(.*)", r"encoder.layers.\1.ffn_norm.\2"),
        Rule(decoder + r"self_attn\.(.*)", r"host.decoder.layers.\1.self_attention.\2"),
        Rule(decoder + r"norm2\.(.*)", r"host.decoder.layers.\1.self_attention_norm.\2"),
        Rule(decoder + rf"cross_attn\.{MSDA}", r"host.decoder.layers.\1.cross_attention.\2.\3"),
        Rule(decoder + r"norm1\.(.*)", r"host.decoder.layers.\1.cross_attention_norm.\2"),
        Rule(decoder + r"norm3\.(.*)", r"host.decoder.layers.\1.ffn_norm.\2"),
        Rule(encoder + r"(linear[12]\..*)", r"encoder.layers.\1.ffn.\2"),
        Rule(decoder + r"(linear[12]\..*)", r"host.decoder.layers.\1.ffn.\2"),
        Rule(r"transformer\.enc_output\.(.*)", r"proposals.projection.\1"),
        Rule(r"transformer\.enc_output_norm\.(.*)", r"proposals.norm.\1"),
    ]


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from the original DINO's names to ours."""
    return [
        *transformer_rules(),
        Rule(r"transformer\.decoder\.ref_point_head\.(layers\..*)", r"host.decoder.position_mlp.\1"),
        Rule(r"transformer\.decoder\.norm\.(.*)", r"host.decoder.norm.\1"),
        Rule(r"transformer\.enc_out_class_embed\.(.*)", r"proposals.class_head.\1"),
        Rule(r"transformer\.enc_out_bbox_embed\.(layers\..*)", r"proposals.box_head.\1"),
        Rule(r"transformer\.tgt_embed\.weight", "host.query_content.weight"),
        Rule(r"label_enc\.weight", "host.label_embedding.weight"),
        Rule(r"class_embed\.(\d+)\.(.*)", r"host.class_heads.\1.\2"),
        Rule(r"bbox_embed\.(\d+)\.(layers\..*)", r"host.box_heads.\1.\2"),
    ]


def adapt(state: dict[str, Tensor], num_labels: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """Make a renamed state dict ours: class rows by label, and a head for each decoder layer.

    Args:
        state: renamed tensors.
        num_labels: classes to keep; None takes the 80 COCO categories out of 91 rows, and else all rows.

    Returns:
        The new tensors, and what was done in words.
    """
    state, notes = dict(state), []
    rows = len(state["proposals.class_head.weight"])
    if rows == COCO_ROWS and num_labels in (None, len(COCO_CATEGORY_IDS)):
        labels = list(COCO_CATEGORY_IDS)
        notes.append(f"class rows {rows} -> {len(labels)}: those of the COCO category ids, in order")
    else:
        labels = list(range(rows))
    for key, value in state.items():
        if re.fullmatch(r"(proposals\.class_head|host\.class_heads\.\d+)\.(weight|bias)", key):
            state[key] = value[labels]
    embedding = state.get("host.label_embedding.weight")
    if embedding is not None and len(embedding) > len(labels):
        # The last row stood for "no label" and was never used by the released models.
        notes.append(f"label embeddings {len(embedding)} -> {len(labels)}")
        state["host.label_embedding.weight"] = embedding[labels]
    layers = {int(match[1]) for key in state if (match := re.match(r"host\.decoder\.layers\.(\d+)\.", key))}
    for key in [key for key in state if re.match(r"host\.(class|box)_heads\.0\.", key)]:
        for layer in layers:
            copy = re.sub(r"_heads\.0\.", f"_heads.{layer}.", key)
            if copy not in state:
                state[copy] = state[key].clone()
                notes.append(f"{copy}: copied from the head that all layers share")
    return state, notes

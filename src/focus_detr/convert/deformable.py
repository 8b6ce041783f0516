"""Layouts of the original Deformable DETR (fundamentalvision) and of Sparse DETR (kakaobrain)."""

from typing import Any

import torch
from torch import Tensor

from focus_detr.convert.dino import transformer_rules
from focus_detr.convert.rules import Rule


def is_deformable(state: dict[str, Tensor]) -> bool:
    """Whether ``state`` has the original Deformable DETR's names."""
    queries = "transformer.pos_trans.weight" in state or "transformer.reference_points.weight" in state
    return queries and "transformer.level_embed" in state and "input_proj.0.0.weight" in state


def is_two_stage(state: dict[str, Tensor]) -> bool:
    """Whether queries come from proposals."""
    return "transformer.pos_trans.weight" in state


def is_refined(state: dict[str, Tensor]) -> bool:
    """Whether each decoder layer refines the boxes of the one before."""
    return "transformer.decoder.bbox_embed.0.layers.0.weight" in state


def host_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """The variant, as options of the host."""
    options = {"two_stage": is_two_stage(state), "box_refinement": is_refined(state)}
    if is_sparse(state):
        # Both are on in every release; the first shows in the shape of its projection.
        projection = state.get("transformer.pos_trans.weight")
        from_memory = projection is not None and projection.shape[0] * 2 == projection.shape[1]
        options |= {"content_from_memory": from_memory, "class_proposals": True}
    return options


def policy_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """Options of the sparse policy."""
    return {"auxiliary_losses": _auxiliary_heads(state) > 0}


def is_sparse(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint of this layout is Sparse DETR."""
    return "transformer.enc_mask_predictor.layer1.0.weight" in state


def _auxiliary_heads(state: dict[str, Tensor]) -> int:
    # Heads of encoder layers, listed after those of the decoder layers and of the proposals.
    return sum(
        key.startswith("transformer.encoder.class_embed.") and key.endswith(".weight") for key in state
    )


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from the original's names to ours."""
    heads = sum(key.startswith("class_embed.") and key.endswith(".weight") for key in state)
    auxiliary = _auxiliary_heads(state)
    heads -= auxiliary
    rules = transformer_rules()
    for j in range(auxiliary):
        listed = heads + j
        rules += [
            Rule(rf"transformer\.encoder\.(class|bbox)_embed\.{j}\.(.*)", alias_of=rf"\1_embed.{listed}.\2"),
            Rule(rf"class_embed\.{listed}\.(.*)", rf"encoder.class_heads.{j}.\1"),
            Rule(rf"bbox_embed\.{listed}\.(layers\..*)", rf"encoder.box_heads.{j}.\1"),
        ]
    if is_sparse(state):
        scorer = r"transformer\.enc_mask_predictor\."
        rules += [
            Rule(scorer + r"layer1\.0\.(.*)", r"encoder.scorer.norm.\1"),
            Rule(scorer + r"layer1\.1\.(.*)", r"encoder.scorer.project.\1"),
            Rule(scorer + r"layer2\.([024]\..*)", r"encoder.scorer.score.\1"),
        ]
    if is_two_stage(state):
        last = heads - 1
        rules += [
            Rule(r"transformer\.pos_trans\.(.*)", r"host.query_projection.\1"),
            Rule(r"transformer\.pos_trans_norm\.(.*)", r"host.query_norm.\1"),
            Rule(rf"class_embed\.{last}\.(.*)", r"proposals.class_head.\1"),
            Rule(rf"bbox_embed\.{last}\.(layers\..*)", r"proposals.box_head.\1"),
        ]
    else:
        rules += [
            Rule(r"transformer\.reference_points\.(.*)", r"host.query_point.\1"),
            Rule(r"query_embed\.weight", r"host.query_position_and_content.weight"),
        ]
    if not is_refined(state):
        # All layers have one head, saved once for each of them.
        rules.append(Rule(r"((?:class|bbox)_embed)\.[1-9]\d*\.(.*)", alias_of=r"\1.0.\2"))
    rules += [
        Rule(r"class_embed\.(\d+)\.(.*)", r"host.class_heads.\1.\2"),
        Rule(r"bbox_embed\.(\d+)\.(layers\..*)", r"host.box_heads.\1.\2"),
    ]
    return rules


def adapt(state: dict[str, Tensor], num_labels: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """Make a renamed state dict ours: learned queries are two tables, of positions and of contents."""
    state, notes = dict(state), []
    if "neck.projections.1.conv.weight" not in state:
        notes.append("one level of stride 32; a dilated one (DC5) has the same tensors and is not supported")
    both = state.pop("host.query_position_and_content.weight", None)
    if both is not None:
        position, content = (part.contiguous() for part in torch.chunk(both, 2, dim=1))
        state |= {"host.query_position.weight": position, "host.query_content.weight": content}
        notes.append(
            "query_embed.weight: its first half are the queries' positions, its second their contents"
        )
    return state, notes

"""Layout of Lite-DETR on the original DINO (IDEA-Research), with and without key-aware attention."""

import re
from typing import Any

from torch import Tensor

from focus_detr.convert import dino
from focus_detr.convert.rules import Rule

_ATTENTION = r"transformer\.(encoder|decoder)\.layers\.(\d+)\.(?:self|cross)_attn\."
_OURS = {
    "encoder": "encoder.layers.{}.deformable_attention",
    "decoder": "host.decoder.layers.{}.cross_attention",
}


def is_lite(state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint of the original DINO's names is Lite-DETR: its attention has projected queries."""
    return "transformer.encoder.layers.0.self_attn.query_proj.weight" in state


def is_key_aware(state: dict[str, Tensor]) -> bool:
    """Whether weights come from sampled keys; otherwise the projected queries are there and not used."""
    return "transformer.encoder.layers.0.self_attn.attention_weights.weight" not in state


def host_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """How the decoder attends to the memory."""
    own_keys = "transformer.encoder.layers.0.self_attn.key_proj.weight" in state
    return {"key_aware": is_key_aware(state), "own_keys": own_keys}


def policy_options(state: dict[str, Tensor]) -> dict[str, Any]:
    """What the tensors say of the interleaving: not how many levels are high, nor without small networks how
    many blocks there are."""
    ends = [key for key in state if re.fullmatch(r"transformer\.encoder\.layers\.\d+\.linear12\.weight", key)]
    blocks = {"blocks": len(ends)} if ends else {}
    return {**host_options(state), "small_ffn": bool(ends), **blocks}


def rules(state: dict[str, Tensor]) -> list[Rule]:
    """Rules from its names to ours: the original DINO's and a few more."""

    def renamed(match: re.Match[str]) -> str:
        return f"{_OURS[match[1]].format(match[2])}.{match[3]}"

    encoder = r"transformer\.encoder\.layers\.(\d+)\."
    unused = "projects queries and keys of key-aware attention, which this model does not use"
    return [
        Rule(_ATTENTION + r"((?:query|key)_proj\..*)", renamed if is_key_aware(state) else None, unused),
        Rule(encoder + r"linear([12])2\.(.*)", r"encoder.layers.\1.low_ffn.linear\2.\3"),
        Rule(encoder + r"norm22\.(.*)", r"encoder.layers.\1.low_ffn_norm.\2"),
        *dino.rules(state),
    ]

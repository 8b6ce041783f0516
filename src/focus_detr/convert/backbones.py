"""Names of backbones in detectron2, torchvision and Swin's own code, to those of transformers."""

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from focus_detr.convert.rules import Rule
from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.catalogue import backbone_config, list_backbones

_OURS = "backbone.model."
_BIAS = "relative_position_bias"
_STATISTICS = r"(weight|bias|running_mean|running_var)"
_COUNTER = Rule(r"backbone\..*\.num_batches_tracked", reason="counts batches, which frozen norms do not")


def _block(match: re.Match[str], first_stage: int) -> str:
    return f"{_OURS}encoder.stages.{int(match[1]) - first_stage}.layers.{match[2]}"


def _convolution(part: str, first_stage: int) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{_block(match, first_stage)}.layer.{int(match[3]) - 1}.{part}.{match[4]}"


def _shortcut(part: str, first_stage: int) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{_block(match, first_stage)}.shortcut.{part}.{match[3]}"


DETECTRON2_RESNET: Sequence[Rule] = (
    Rule(r"backbone\.stem\.conv1\.weight", _OURS + "embedder.embedder.convolution.weight"),
    Rule(rf"backbone\.stem\.conv1\.norm\.{_STATISTICS}", _OURS + r"embedder.embedder.normalization.\1"),
    Rule(r"backbone\.res(\d)\.(\d+)\.conv(\d)\.(weight)", _convolution("convolution", 2)),
    Rule(rf"backbone\.res(\d)\.(\d+)\.conv(\d)\.norm\.{_STATISTICS}", _convolution("normalization", 2)),
    Rule(r"backbone\.res(\d)\.(\d+)\.shortcut\.(weight)", _shortcut("convolution", 2)),
    Rule(rf"backbone\.res(\d)\.(\d+)\.shortcut\.norm\.{_STATISTICS}", _shortcut("normalization", 2)),
    _COUNTER,
)


def torchvision_resnet(prefix: str) -> list[Rule]:
    """Rules for the names of torchvision's and timm's ResNet below ``prefix`` (a regular expression)."""
    return [
        Rule(prefix + r"conv1\.weight", _OURS + "embedder.embedder.convolution.weight"),
        Rule(prefix + rf"bn1\.{_STATISTICS}", _OURS + r"embedder.embedder.normalization.\1"),
        Rule(prefix + r"layer(\d)\.(\d+)\.conv(\d)\.(weight)", _convolution("convolution", 1)),
        Rule(prefix + rf"layer(\d)\.(\d+)\.bn(\d)\.{_STATISTICS}", _convolution("normalization", 1)),
        Rule(prefix + r"layer(\d)\.(\d+)\.downsample\.0\.(weight)", _shortcut("convolution", 1)),
        Rule(prefix + rf"layer(\d)\.(\d+)\.downsample\.1\.{_STATISTICS}", _shortcut("normalization", 1)),
        _COUNTER,
    ]


TORCHVISION_RESNET: Sequence[Rule] = torchvision_resnet(r"backbone\.0\.body\.")


def swin_rules(prefix: str) -> list[Rule]:
    """Rules for Swin's original names below ``prefix`` (a regular expression)."""
    block = prefix + r"layers\.(\d+)\.blocks\.(\d+)\."
    ours = _OURS + r"swin.encoder.layers.\1."
    ours_block = ours + r"blocks.\2."
    return [
        Rule(prefix + r"patch_embed\.proj\.(.*)", _OURS + r"swin.embeddings.patch_embeddings.projection.\1"),
        Rule(prefix + r"patch_embed\.norm\.(.*)", _OURS + r"swin.embeddings.norm.\1"),
        Rule(block + r"norm1\.(.*)", ours_block + r"layernorm_before.\3"),
        Rule(block + r"norm2\.(.*)", ours_block + r"layernorm_after.\3"),
        Rule(
            block + r"attn\.qkv\.(.*)",
            ours_block + r"attention.{part}_proj.\3",
            split=("q", "k", "v"),
        ),
        Rule(block + r"attn\.proj\.(.*)", ours_block + r"attention.o_proj.\3"),
        Rule(block + r"attn\.(relative_position_bias_table)", ours_block + r"attention." + _BIAS + r".\3"),
        Rule(block + r"attn\.relative_position_index", reason="follows from the window size"),
        Rule(block + r"attn_mask", reason="follows from the window size"),
        Rule(block + r"mlp\.(fc[12]\..*)", ours_block + r"mlp.\3"),
        Rule(prefix + r"layers\.(\d+)\.downsample\.(.*)", ours + r"downsample.\2"),
        Rule(prefix + r"norm(\d)\.(.*)", lambda m: f"{_OURS}hidden_states_norms.stage{int(m[1]) + 1}.{m[2]}"),
    ]


def detect_backbone(state: dict[str, Tensor], source: str) -> str:
    """Name of the preset whose shape the renamed ``state`` has (see `list_backbones`).

    Raises:
        FocusDetrError: no preset has it.
    """
    found = _signature(state)
    for name in list_backbones():
        config = backbone_config(name)
        expected: tuple[object, ...] = (config.model_type, tuple(config.depths))
        if config.model_type == "swin":
            expected += (config.embed_dim, config.window_size)
        if found == expected:
            return name
    raise FocusDetrError(
        f"{source}: its backbone {found} is none of {', '.join(list_backbones())}, nor a variant of one"
    )


def _signature(state: dict[str, Tensor]) -> tuple[object, ...]:
    stem = state.get(_OURS + "swin.embeddings.patch_embeddings.projection.weight")
    if stem is None:
        return ("resnet", _depths(state, _OURS + r"encoder\.stages\.(\d+)\.layers\.(\d+)\..*"))
    table = f"{_OURS}swin.encoder.layers.0.blocks.0.attention.{_BIAS}.relative_position_bias_table"
    side = int(len(state[table]) ** 0.5) if table in state else 0
    depths = _depths(state, _OURS + r"swin\.encoder\.layers\.(\d+)\.blocks\.(\d+)\..*")
    return ("swin", depths, len(stem), (side + 1) // 2)


def _depths(state: dict[str, Tensor], pattern: str) -> tuple[int, ...]:
    depths: dict[int, int] = {}
    for key in state:
        match = re.fullmatch(pattern, key)
        if match:
            depths[int(match[1])] = max(depths.get(int(match[1]), 0), int(match[2]) + 1)
    return tuple(depths[stage] for stage in sorted(depths))

"""One map more of a backbone, finer than those that become levels: what masks are drawn on."""

from __future__ import annotations

import copy

from transformers import PreTrainedConfig

from focus_detr.models.backbones.strides import measured_channels, measured_strides

WANTED_STRIDE = 4


def with_finer_map(config: PreTrainedConfig) -> PreTrainedConfig:
    """``config`` with a map of stride 4 before its others, or the nearest there is; itself where that is its
    first one already."""
    names = list(getattr(config, "stage_names", None) or [])
    outputs = list(getattr(config, "out_features", None) or [])
    if not outputs or outputs[0] not in names or measured_strides(config)[0] <= WANTED_STRIDE:
        return config
    found = config
    for name in reversed(names[: names.index(outputs[0])]):
        if name in ("stem",):
            break
        finer = copy.deepcopy(config)
        finer.out_features = [name, *outputs]
        stride = measured_strides(finer)[0]
        if stride < WANTED_STRIDE:
            break
        found = finer
        if stride == WANTED_STRIDE:
            break
    return found


def finest_channels(config: PreTrainedConfig) -> int:
    """Channels of the first map of `with_finer_map`."""
    return measured_channels(with_finer_map(config))[0]

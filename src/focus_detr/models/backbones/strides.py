"""Strides and channels of feature maps: asked of the backbone itself, without computing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from transformers.configuration_utils import PreTrainedConfig

from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.catalogue import as_backbone_config, own_strides

# A multiple of every stride in use, those of ViTs with patches of 14 or 16 pixels too.
_SIDE = 448


def measured_strides(config: PreTrainedConfig) -> list[int]:
    """Input pixels a cell of each feature map, fine to coarse, of the backbone that ``config`` describes.

    Raises:
        FocusDetrError: the backbone takes no image of any size tried.
    """
    # Measuring takes torch's compiler, which is slow to import.
    own = own_strides(config)
    return [stride for stride, _ in _maps(config)] if own is None else own


def measured_channels(config: PreTrainedConfig) -> list[int]:
    """Channels of each of these maps; raises as `measured_strides`."""
    return [channels for _, channels in _maps(config)]


def _maps(config: PreTrainedConfig) -> tuple[tuple[int, int], ...]:
    return _measured(json.dumps(config.to_dict(), sort_keys=True, default=str))


@lru_cache(maxsize=64)
def _measured(settings: str) -> tuple[tuple[int, int], ...]:
    # In a thread of its own, where no mode of the caller's holds, such as that of fake tensors.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_measure, settings).result()


def _measure(settings: str) -> tuple[tuple[int, int], ...]:
    # Pixels a cell, and channels, of each map.
    from transformers import AutoBackbone

    from focus_detr.models.backbones.own import register

    register()
    config = as_backbone_config(json.loads(settings))
    declared = getattr(config, "image_size", None) or _SIDE  # some take no other
    sides = dict.fromkeys([_SIDE, declared if isinstance(declared, int) else max(declared)])
    failures = []
    with torch.device("meta"), torch.no_grad():  # shapes alone: no memory, no arithmetic, no random numbers
        model = AutoBackbone.from_config(config).eval()
        for side in sides:
            try:
                maps = model(torch.empty(1, 3, side, side)).feature_maps
            except (RuntimeError, ValueError, NotImplementedError) as error:
                failures.append(f"{side} x {side}: {str(error).splitlines()[0]}")
                continue
            return tuple((round(side / each.shape[-1]), each.shape[1]) for each in maps)
    raise FocusDetrError(
        f"backbone {config.model_type!r}: its strides cannot be measured, as it takes no image of "
        + "; ".join(failures)
    )

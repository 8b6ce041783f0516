"""How a new model starts: the original's scheme (spec 1.14). Layers are told here, other parts by themselves.

A part whose parameters start otherwise than its layers' do has a method ``start``.
"""

from __future__ import annotations

from typing import Protocol, cast

from torch import nn
from transformers import initialization as init

from focus_detr.models.attention import Attention


class _Starts(Protocol):
    def start(self) -> None: ...


def initialize(module: nn.Module) -> None:
    """Initialise a module that holds parameters itself."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        init.xavier_uniform_(module.weight)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, Attention):
        init.xavier_uniform_(module.in_proj_weight)
        init.zeros_(module.in_proj_bias)


def start_parts(model: nn.Module) -> None:
    """What parts set otherwise than their layers do; transformers asks layers and the whole."""
    # Parts before the wholes that hold them, which may have a say in how their parts start.
    for module in reversed(list(model.modules())):
        # Asked of the class: a submodule may be called so.
        if hasattr(type(module), "start"):
            cast(_Starts, module).start()

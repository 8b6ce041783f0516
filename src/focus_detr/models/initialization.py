"""How a new model starts: the original's scheme (spec 1.14), module by module."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.attention import MLP, Attention, DeformableAttention
from focus_detr.models.hosts.decoder import Decoder
from focus_detr.models.hosts.deformable import DeformableDecoder, DeformableHost
from focus_detr.models.hosts.detr import DetrHost
from focus_detr.models.hosts.dino import DinoHost
from focus_detr.models.hosts.dn_deformable import DnDeformableHost
from focus_detr.models.policies.base import TokenPolicy
from focus_detr.models.policies.scoring import ForegroundSelector
from focus_detr.models.policies.sparse import SparsePolicy
from focus_detr.models.proposals import Proposals
from focus_detr.structures.boxes import inverse_sigmoid

_RARE = -math.log(99)  # a logit of 1 %: every class is rare at first, and so is foreground


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


def start(model: nn.Module) -> None:
    """What composite parts set otherwise than their layers do; transformers asks layers and the whole."""
    # Parts before the wholes that hold them, which may have a say in how their parts start.
    for module in reversed(list(model.modules())):
        _start(module)


def _start(module: nn.Module) -> None:
    if isinstance(module, DeformableAttention):
        module.reset_parameters()
    elif isinstance(module, ForegroundSelector):
        if module.modulation is not None:
            init.uniform_(module.modulation, -0.3, 0.3)
        init.constant_(_bias(module.score[-1]), _RARE)
    elif isinstance(module, Proposals):
        _start_heads([module.class_head], [module.box_head])
    elif isinstance(module, Decoder):
        _start_heads(module.class_heads, module.box_heads)
    elif isinstance(module, DeformableDecoder | SparsePolicy):
        _start_heads(module.class_heads, module.box_heads)
    elif isinstance(module, DeformableHost) and not module.options.two_stage:
        init.normal_(module.query_content.weight)
        init.normal_(module.query_position.weight)
        _start_small(module.decoder)
    elif isinstance(module, DnDeformableHost):
        init.zeros_(module.query_content.weight)
        init.normal_(module.label_embedding.weight)
        # Boxes of all places and sizes, but for the margins.
        init.uniform_(module.query_anchor.weight)
        init.copy_(
            module.query_anchor.weight, inverse_sigmoid(module.query_anchor.weight.detach()).clamp(-3, 3)
        )
        _start_small(module.decoder)
    elif isinstance(module, DinoHost):
        init.xavier_uniform_(module.query_content.weight)
        init.normal_(module.label_embedding.weight)
    elif isinstance(module, DetrHost):
        init.normal_(module.query_position.weight)
    elif isinstance(module, TokenPolicy):
        module.start()


def _start_heads(class_heads: Iterable[nn.Module], box_heads: Iterable[nn.Module]) -> None:
    for head in class_heads:
        init.constant_(_bias(head), _RARE)
    for head in box_heads:
        assert isinstance(head, MLP)
        last = head.layers[-1]
        assert isinstance(last, nn.Linear)
        init.zeros_(last.weight)
        init.zeros_(last.bias)


def _start_small(decoder: DeformableDecoder) -> None:
    # Small boxes to begin with, where there is no proposal to begin from.
    head = cast(MLP, decoder.box_heads[0])
    init.copy_(_bias(head.layers[-1]), torch.tensor([0.0, 0.0, -2.0, -2.0]))


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.bias

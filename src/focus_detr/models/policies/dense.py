"""Dense: every layer works on every token (Deformable DETR, DINO)."""

# Shapes: B images, N tokens of all levels, L levels, C channels.

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.models.layers import Layers
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.encoder import encoder_layers
from focus_detr.models.proposals import Proposals
from focus_detr.structures.memory import Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@POLICIES.register("dense")
class DensePolicy(TokenPolicy):
    """Deformable attention of all tokens among all tokens."""

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        self.layers = Layers(encoder_layers(config))

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        geometry, references = tokens.geometry, tokens.references()
        memory = tokens.content
        for layer in self.layers:
            value = layer.deformable_attention.project(memory, geometry.valid)
            memory = layer(memory, tokens.positions, references, value, geometry.shapes)
        return Memory(memory, geometry)

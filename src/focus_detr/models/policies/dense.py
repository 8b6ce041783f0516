"""Dense: every layer works on every token (Deformable DETR, DINO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.encoder import EncoderLayer, encoder_layers, reference_points
from focus_detr.models.proposals import Proposals
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import Memory
from focus_detr.structures.plan import TokenPlan

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@POLICIES.register("dense")
class DensePolicy(TokenPolicy):
    """Deformable attention of all tokens among all tokens."""

    def __init__(self, config: FocusDetrConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(encoder_layers(config))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        geometry: Geometry,
        plan: TokenPlan | None,
        proposals: Proposals | None,
    ) -> Memory:
        references = reference_points(tokens, geometry)
        for layer in cast(list[EncoderLayer], list(self.layers)):
            value = layer.deformable_attention.project(tokens, geometry.valid)
            tokens = layer(tokens, positions, references, value, geometry.shapes)
        return Memory(tokens, geometry)

"""Full attention: every token attends to every other, layer by layer (DETR)."""

# Shapes: B images, N tokens, C channels, h heads.

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from focus_detr.models.attention import FeedForward, SelfAttention
from focus_detr.models.checkpointing import CheckpointedLayer
from focus_detr.models.layers import Layers
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.proposals import Proposals
from focus_detr.structures.memory import Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@POLICIES.register("full-attention")
class FullAttentionPolicy(TokenPolicy):
    """Its cost grows with the square of the number of tokens: meant for one coarse level."""

    single_scale = True

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        self.layers = Layers(full_attention_layers(config))

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        geometry, positions = tokens.geometry, tokens.positions
        memory = attend(self.layers, tokens.content, positions, geometry.valid)
        return Memory(memory, geometry, positions=positions, valid=geometry.valid)


class FullAttentionLayer(CheckpointedLayer):
    """Self-attention among all tokens, then feed-forward."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = SelfAttention(channels, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, hidden, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor, allowed: Tensor | None) -> Tensor:
        """tokens, positions (B,N,C); allowed, True where a token may attend, as (B,h,N,N) -> (B,N,C)."""
        attended = self.self_attention(tokens, positions, allowed)
        tokens = self.self_attention_norm(tokens + self.dropout(attended))
        return self.ffn_norm(tokens + self.dropout(self.ffn(tokens)))


def full_attention_layers(config: FocusDetrConfig) -> list[FullAttentionLayer]:
    """As many layers as ``config`` says."""
    c = config
    return [
        FullAttentionLayer(c.d_model, c.attention_heads, c.encoder_ffn_dim, c.dropout)
        for _ in range(c.encoder_layers)
    ]


def attend(
    layers: Layers[FullAttentionLayer], tokens: Tensor, positions: Tensor, valid: Tensor | None
) -> Tensor:
    """Tokens (B,N,C) at positions (B,N,C) through the layers; only those of valid (B,N) are attended to."""
    allowed = None if valid is None else valid[:, None, None]
    for layer in layers:
        tokens = layer(tokens, positions, allowed)
    return tokens

"""Decoder: queries to boxes, refined layer by layer with look-forward-twice (spec 1.8)."""

# Shapes: B images, Q queries (D+Q with denoising ones), N tokens of all levels, L levels, P points, h heads,
# C channels.

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from focus_detr.models.attention import MLP, DeformableAttention, FeedForward, Samples, SelfAttention
from focus_detr.models.checkpointing import CheckpointedLayer
from focus_detr.models.heads.boxes import BoxHead, refine_boxes
from focus_detr.models.key_aware import KeyAwareOptions, sampling_attention
from focus_detr.models.layers import Layers, first
from focus_detr.models.position import box_positions
from focus_detr.structures.memory import DecoderOutput, Memory

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


class DecoderLayer(CheckpointedLayer):
    """Self-attention among queries, deformable attention to the memory, feed-forward."""

    def __init__(
        self, channels: int, heads: int, cross_attention: DeformableAttention, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttention(channels, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(channels)
        self.cross_attention = cross_attention
        self.cross_attention_norm = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, hidden, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        positions: Tensor,
        references: Tensor,
        value: Tensor,
        shapes: list[tuple[int, int]],
        allowed: Tensor | None,
    ) -> tuple[Tensor, Samples]:
        """queries, positions (B,Q,C), references (B,Q,L,4), value (B,N,h,C/h) -> (B,Q,C), where it looked."""
        attended = self.self_attention(queries, positions, allowed)
        queries = self.self_attention_norm(queries + self.dropout(attended))
        found, samples = self.cross_attention.attend(queries + positions, references, value, shapes)
        queries = self.cross_attention_norm(queries + self.dropout(found))
        return self.ffn_norm(queries + self.dropout(self.ffn(queries))), samples


class Decoder(nn.Module):
    """Layers whose queries move their boxes as they go.

    Args:
        refine: how a box head's answer moves a reference.
    """

    def __init__(
        self,
        layers: list[DecoderLayer],
        channels: int,
        refine: Callable[[Tensor, Tensor], Tensor] = refine_boxes,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.refine = refine
        self.layers = Layers(layers)
        self.norm = nn.LayerNorm(channels)
        self.position_mlp = MLP(2 * channels, channels, channels)

    def forward(
        self,
        content: Tensor,
        boxes: Tensor,
        memory: Memory,
        box_heads: Layers[BoxHead],
        allowed: Tensor | None = None,
        canvas_query_position: bool = False,
        with_samples: bool = False,
        *,
        layers: int | None = None,
    ) -> DecoderOutput:
        """The states of every layer, and the boxes that its boxes are relative to.

        These have a gradient: a layer's boxes also teach the box head before (look forward twice).

        Args:
            content: (B,Q,C); boxes: (B,Q,4) boxes_cxcywh to start from.
            box_heads: one a layer; between layers they move the boxes.
            allowed: True where a query may attend to another; broadcasts to (B,h,Q,Q).
            with_samples: say where each layer sampled; the list is empty otherwise.
            layers: run so many, the first ones; None runs all.
        """
        geometry = memory.geometry
        ratios = geometry.valid_ratios(boxes.dtype).repeat(1, 1, 2)[:, None]  # (B,1,L,4)
        output = DecoderOutput([], [])
        # The same boxes twice: start has its gradient, reference has none.
        states, reference, start = content, boxes, boxes
        last = (layers or len(self.layers)) - 1
        for j, layer in first(self.layers, layers):
            canvas = reference[:, :, None] * ratios  # (B,Q,L,4)
            # The original encodes positions on the finest canvas; an image alone has no canvas.
            encoded = box_positions(canvas[:, :, 0] if canvas_query_position else reference, self.channels)
            positions = self.position_mlp(encoded.to(states.dtype))  # (B,D+Q,C)
            value = memory.project(layer.cross_attention)  # (B,N,h,C/h)
            states, sampled = layer(states, positions, canvas, value, geometry.shapes, allowed)
            if with_samples:
                output.samples.append(layer.cross_attention.places(sampled, geometry.shapes))
            # Predictions read the normed state, refinement the state itself (as released).
            output.states.append(self.norm(states))
            output.references.append(start)
            if j < last:
                # A layer's box head moves what the next layer looks at, and what its boxes are relative to:
                # with a gradient there, and none through where it looks.
                start = self.refine(box_heads[j](states), reference)
                reference = start.detach()
        return output


def decoder_layers(config: FocusDetrConfig, options: KeyAwareOptions | None = None) -> list[DecoderLayer]:
    """As many layers as ``config`` says; ``options`` say how they weigh what they sample of the memory."""
    c, options = config, options or KeyAwareOptions()
    return [
        DecoderLayer(
            c.d_model, c.attention_heads, sampling_attention(c, options), c.decoder_ffn_dim, c.dropout
        )
        for _ in range(c.decoder_layers)
    ]


def self_attention_mask(denoising: Tensor | None, valid: Tensor | None) -> Tensor | None:
    """Combine the denoising mask (D+Q,D+Q) and valid queries (B,Q) to what broadcasts to (B,h,D+Q,D+Q)."""
    if valid is None:
        return denoising
    if denoising is None:
        return valid[:, None, None]
    padding = denoising.shape[0] - valid.shape[1]
    keys = torch.cat([valid.new_ones(len(valid), padding), valid], 1)
    return denoising & keys[:, None, None]

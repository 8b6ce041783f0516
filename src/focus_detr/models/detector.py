"""The detector: its forward pass reads like the paper's figure 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from focus_detr.configuration import FocusDetrConfig
from focus_detr.losses.objective import Objective
from focus_detr.models.backbone import build_backbone
from focus_detr.models.decoder import Decoder, DecoderLayer, self_attention_mask
from focus_detr.models.encoder import Encoder, EncoderLayer
from focus_detr.models.geometry import Geometry, flatten_levels
from focus_detr.models.initialization import initialize, start
from focus_detr.models.levels import levels_of_canvas, levels_of_each_size
from focus_detr.models.neck import Neck
from focus_detr.models.position import token_positions
from focus_detr.models.queries import DenoisingQueries, Proposals, Queries, make_denoising_queries
from focus_detr.models.scoring import ForegroundSelector
from focus_detr.models.selection import TokenPlan, plan_tokens

Labels = list[dict[str, Tensor]]


@dataclass
class FocusDetrOutput(ModelOutput):
    """Predictions of the last decoder layer, and what they came from.

    Attributes:
        loss: the sum of ``loss_dict``, whose parts are already weighted; with labels only.
        logits: (B,Q,k), the lowest float where a query stands for no token of its image.
        pred_boxes: (B,Q,4) boxes_cxcywh of the unpadded image.
        plan: the tokens each encoder layer worked on; None for the dense policy.
        memory: (B,N,C), the encoder's output.
        proposal_boxes: (B,Q,4) boxes_cxcywh that the decoder started from.
        spatial_shapes: (H,W) of each level's canvas.
        level_sizes: (B,L,2) height and width of the image's part of each canvas.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None
    plan: TokenPlan | None = None
    memory: Tensor | None = None
    proposal_boxes: Tensor | None = None
    spatial_shapes: list[tuple[int, int]] | None = None
    level_sizes: Tensor | None = None


class FocusDetrForObjectDetection(PreTrainedModel):
    """Focus-DETR ("Less is More: Focus Attention for Efficient DETR", ICCV 2023).

    With the dense token policy it is DINO.
    """

    config_class = FocusDetrConfig
    config: FocusDetrConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: FocusDetrConfig) -> None:
        super().__init__(config)
        c = config
        assert c.backbone_config is not None and c.num_labels is not None  # filled in by the configuration
        width, heads, levels, points = c.d_model, c.attention_heads, c.num_levels, c.num_points
        focus = c.token_policy == "focus"
        self.backbone = build_backbone(
            c.backbone_config, freeze_stem=c.freeze_stem, freeze_stages=c.freeze_stages
        )
        self.neck = Neck(self.backbone.channels, width, levels)
        strides = list(self.backbone.strides)
        self.strides = strides + [strides[-1] * 2 ** (i + 1) for i in range(levels - len(strides))]
        self.level_embedding = nn.Parameter(torch.empty(levels, width))
        self.selector = ForegroundSelector(width, levels) if focus else None
        encoder_layers = [
            EncoderLayer(width, heads, levels, points, c.encoder_ffn_dim, c.dropout, dual=focus)
            for _ in range(c.encoder_layers)
        ]
        self.encoder = Encoder(encoder_layers, c.num_fine_tokens)
        self.proposals = Proposals(width, c.num_labels)
        self.query_content = nn.Embedding(c.num_queries, width)
        self.label_embedding = nn.Embedding(c.num_labels, width)
        decoder_layers = [
            DecoderLayer(width, heads, levels, points, c.decoder_ffn_dim, c.dropout)
            for _ in range(c.decoder_layers)
        ]
        self.decoder = Decoder(decoder_layers, width, c.num_labels)
        self.objective = Objective(c, self.strides)
        self.quirks = c.switches
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        **_: Any,
    ) -> FocusDetrOutput:
        """Detect, and with labels also compute the losses.

        Args:
            pixel_values: (B,3,H,W) normalised images, padded right and below.
            pixel_mask: (B,H,W), 1 where a pixel is image; None when nothing is padded.
            labels: one dict an image: ``class_labels`` (T,), ``boxes`` (T,4) boxes_cxcywh of the unpadded
                image, ``size`` (2,) its height and width in pixels.
            denoising: the denoising queries to use instead of drawing them.
        """
        levels, geometry = self.extract_levels(pixel_values, pixel_mask)
        tokens = flatten_levels(levels)
        positions = self.encode_positions(geometry, tokens)

        plan = self.plan(tokens, positions, geometry)
        memory = self.encode(tokens, positions, geometry, plan)

        queries = self.proposals.select(
            memory, geometry, self.query_content.weight, self.quirks.padded_queries
        )
        if labels is not None and self.training and denoising is None:
            denoising = self._draw_denoising(labels)
        logits, boxes = self.decode(queries, denoising, memory, geometry)

        loss, parts = None, None
        if labels is not None:
            foreground = None if plan is None else (plan.scores, geometry)
            parts = self.objective(logits, boxes, queries, denoising, foreground, labels)
            if denoising is None and self.training:
                # Distributed training wants every parameter in every step, also in one without objects.
                parts["loss_class"] = parts["loss_class"] + 0.0 * self.label_embedding.weight.sum()
            loss = torch.stack(list(parts.values())).sum()
        skip = 0 if denoising is None else denoising.content.shape[1]
        last_logits = logits[-1][:, skip:]
        if queries.valid is not None:
            last_logits = last_logits.masked_fill(
                ~queries.valid[..., None], torch.finfo(last_logits.dtype).min
            )
        return FocusDetrOutput(
            loss=loss,
            loss_dict=parts,
            logits=last_logits,
            pred_boxes=boxes[-1][:, skip:],
            plan=plan,
            memory=memory,
            proposal_boxes=queries.proposal_boxes,
            spatial_shapes=geometry.shapes,
            level_sizes=geometry.sizes,
        )

    def extract_levels(
        self, pixel_values: Tensor, pixel_mask: Tensor | None
    ) -> tuple[list[Tensor], Geometry]:
        """Images (B,3,H,W) to levels (B,C,H_l,W_l) and where in them the images are."""
        if pixel_mask is None or (self.quirks.unmasked_evaluation and not self.training):
            return levels_of_canvas(self._levels, pixel_values, None)
        if self.quirks.padded_backbone:
            return levels_of_canvas(self._levels, pixel_values, pixel_mask)
        return levels_of_each_size(self._levels, pixel_values, pixel_mask)

    def _levels(self, pixel_values: Tensor) -> list[Tensor]:
        return self.neck(self.backbone(pixel_values))

    def encode_positions(self, geometry: Geometry, tokens: Tensor) -> Tensor:
        """(B,N,C): where each token is in its image, and on which level."""
        c = self.config
        positions = token_positions(geometry, c.d_model, c.position_temperature, c.position_offset)
        lengths = torch.tensor(geometry.lengths, device=tokens.device)
        levels = self.level_embedding.repeat_interleave(lengths, 0, output_size=geometry.num_tokens)
        return positions.to(tokens.dtype) + levels

    def plan(self, tokens: Tensor, positions: Tensor, geometry: Geometry) -> TokenPlan | None:
        """Score every token and keep the foreground; None for the dense policy."""
        if self.selector is None:
            return None
        # Scores decide by their order, and half precision changes it: this part stays in full precision.
        with torch.autocast(tokens.device.type, enabled=False):
            full = tokens.float() if tokens.dtype.itemsize < 4 else tokens
            _, proposing = self.proposals.anchors(geometry)
            features = self.proposals.transform(full + positions.to(full.dtype), proposing)
            scores = self.selector(features, geometry, use_padding=self.quirks.padded_statistics)
        return plan_tokens(
            scores,
            geometry,
            self.config.keep_ratio,
            self.config.cascade,
            batch_counts=self.quirks.batch_counts,
            batch_fill=self.quirks.batch_fill,
        )

    def encode(self, tokens: Tensor, positions: Tensor, geometry: Geometry, plan: TokenPlan | None) -> Tensor:
        """Tokens (B,N,C) to memory (B,N,C): the plan's tokens, or all."""
        dtype = tokens.dtype if tokens.dtype.itemsize >= 4 else torch.float32
        references = geometry.references(dtype)
        if plan is None:
            return self.encoder.forward_dense(tokens, positions, references, geometry)
        return self.encoder(
            tokens,
            positions,
            references,
            geometry,
            plan,
            self.proposals.class_head,
            frozen_values=self.quirks.frozen_values,
            raw_category_product=self.quirks.raw_category_product,
            padded_fine_tokens=self.quirks.padded_fine_tokens,
        )

    def decode(
        self, queries: Queries, denoising: DenoisingQueries | None, memory: Tensor, geometry: Geometry
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and boxes_cxcywh of every decoder layer; denoising queries come first."""
        content, boxes, mask = queries.content, queries.boxes, None
        if denoising is not None:
            mask = denoising.attention_mask(content.shape[1])
            content = torch.cat([denoising.content.to(content.dtype), content], 1)
            boxes = torch.cat([denoising.boxes.to(boxes.dtype).sigmoid(), boxes], 1)
        allowed = self_attention_mask(mask, queries.valid)
        return self.decoder(content, boxes, memory, geometry, allowed, self.quirks.canvas_query_position)

    def _draw_denoising(self, labels: Labels) -> DenoisingQueries | None:
        c = self.config
        return make_denoising_queries(
            labels, self.label_embedding, c.denoising_queries, c.label_noise, c.box_noise
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize(module)
        if module is self:
            start(self)
            init.normal_(self.level_embedding)
            init.xavier_uniform_(self.query_content.weight)
            init.normal_(self.label_embedding.weight)

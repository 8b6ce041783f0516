"""The detector: its forward pass reads like the paper's figure 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from focus_detr.configuration import FocusDetrConfig
from focus_detr.losses.criterion import SetCriterion, Weights
from focus_detr.losses.foreground import foreground_loss, foreground_targets
from focus_detr.losses.matcher import HungarianMatcher
from focus_detr.models.attention import DeformableAttention, SelfAttention
from focus_detr.models.backbone import build_backbone
from focus_detr.models.decoder import Decoder, DecoderLayer, self_attention_mask
from focus_detr.models.encoder import Encoder, EncoderLayer
from focus_detr.models.geometry import Geometry, flatten_levels
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
    """Focus-DETR ("Less is More: Focus Attention for Efficient DETR", ICCV 2023); dense DINO by its token policy."""

    config_class = FocusDetrConfig
    config: FocusDetrConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: FocusDetrConfig) -> None:
        super().__init__(config)
        c = config
        width, heads, levels, points = c.d_model, c.attention_heads, c.num_levels, c.num_points
        focus = c.token_policy == "focus"
        self.backbone = build_backbone(c.backbone_config, freeze_stem=c.freeze_stem)
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
            DecoderLayer(width, heads, levels, points, c.decoder_ffn_dim, c.dropout) for _ in range(c.decoder_layers)
        ]
        self.decoder = Decoder(decoder_layers, width, c.num_labels)
        self.criterion = SetCriterion(
            HungarianMatcher(c.class_cost, c.bbox_cost, c.giou_cost, c.focal_alpha, c.focal_gamma),
            Weights(c.class_loss_coefficient, c.bbox_loss_coefficient, c.giou_loss_coefficient),
            c.focal_alpha,
            c.focal_gamma,
        )
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
            labels: one dict an image: ``class_labels`` (T,), ``boxes`` (T,4) boxes_cxcywh of the unpadded image,
                ``size`` (2,) its height and width in pixels.
            denoising: the denoising queries to use instead of drawing them.
        """
        levels, geometry = self.extract_levels(pixel_values, pixel_mask)
        tokens = flatten_levels(levels)
        positions = self.encode_positions(geometry, tokens)

        plan = self.plan(tokens, positions, geometry)
        memory = self.encode(tokens, positions, geometry, plan)

        queries = self.proposals.select(memory, geometry, self.query_content.weight, self.quirks.padded_queries)
        if labels is not None and self.training and denoising is None:
            denoising = self._draw_denoising(labels)
        logits, boxes = self.decode(queries, denoising, memory, geometry)

        loss, parts = None, None
        if labels is not None:
            parts = self._losses(logits, boxes, queries, denoising, plan, geometry, labels)
            loss = torch.stack(list(parts.values())).sum()
        skip = 0 if denoising is None else denoising.content.shape[1]
        last_logits = logits[-1][:, skip:]
        if queries.valid is not None:
            last_logits = last_logits.masked_fill(~queries.valid[..., None], torch.finfo(last_logits.dtype).min)
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

    def extract_levels(self, pixel_values: Tensor, pixel_mask: Tensor | None) -> tuple[list[Tensor], Geometry]:
        """Images (B,3,H,W) to levels (B,C,H_l,W_l) and where in them the images are."""
        if pixel_mask is None or (self.quirks.unmasked_evaluation and not self.training):
            levels = self.neck(self.backbone(pixel_values))
            shapes = [(level.shape[2], level.shape[3]) for level in levels]
            return levels, Geometry.unpadded(shapes, len(pixel_values), pixel_values.device)
        if self.quirks.padded_backbone:
            return self._extract_padded(pixel_values, pixel_mask)
        return self._extract_each_size(pixel_values, pixel_mask)

    def _extract_padded(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[list[Tensor], Geometry]:
        levels = self.neck(self.backbone(pixel_values))
        mask = pixel_mask.to(pixel_values.dtype)[:, None]
        shapes, sizes = [], []
        for level in levels:
            shapes.append((level.shape[2], level.shape[3]))
            small = F.interpolate(mask, size=level.shape[-2:])[:, 0].bool()  # nearest, as released
            sizes.append(torch.stack([small[:, :, 0].sum(1), small[:, 0].sum(1)], -1))
        return levels, Geometry.padded(shapes, torch.stack(sizes, 1))

    def _extract_each_size(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[list[Tensor], Geometry]:
        # An image's features must not know how it was padded: images of one size go through together, cropped.
        heights, widths = pixel_mask[:, :, 0].sum(1).tolist(), pixel_mask[:, 0].sum(1).tolist()
        groups: dict[tuple[int, int], list[int]] = {}
        for i, size in enumerate(zip(heights, widths, strict=True)):
            groups.setdefault((int(size[0]), int(size[1])), []).append(i)
        order = [i for members in groups.values() for i in members]
        extracted = [
            self.neck(self.backbone(pixel_values[members, :, :height, :width]))
            for (height, width), members in groups.items()
        ]
        levels, shapes, sizes = [], [], []
        place = torch.tensor(order, device=pixel_values.device).argsort()
        for level in zip(*extracted, strict=True):
            shape = (max(part.shape[2] for part in level), max(part.shape[3] for part in level))
            padded = [F.pad(part, (0, shape[1] - part.shape[3], 0, shape[0] - part.shape[2])) for part in level]
            levels.append(torch.cat(padded)[place] if len(padded) > 1 else padded[0])
            shapes.append(shape)
            size = [part.shape[2:4] for part, members in zip(level, groups.values(), strict=True) for _ in members]
            sizes.append(torch.tensor(size, device=pixel_values.device)[place])
        if len(groups) == 1:
            return levels, Geometry.unpadded(shapes, len(pixel_values), pixel_values.device)
        return levels, Geometry.padded(shapes, torch.stack(sizes, 1))

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
        centres = geometry.centres().to(dtype)[:, :, None]
        references = centres * geometry.valid_ratios(dtype)[:, None]  # (B,N,L,2)
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
        return make_denoising_queries(labels, self.label_embedding, c.denoising_queries, c.label_noise, c.box_noise)

    def _losses(
        self,
        logits: list[Tensor],
        boxes: list[Tensor],
        queries: Queries,
        denoising: DenoisingQueries | None,
        plan: TokenPlan | None,
        geometry: Geometry,
        labels: Labels,
    ) -> dict[str, Tensor]:
        losses = self.criterion.matched(
            queries.class_logits, queries.proposal_boxes, labels, "_enc", queries.valid
        )
        skip = 0 if denoising is None else denoising.content.shape[1]
        last = len(logits) - 1
        for j, (layer_logits, layer_boxes) in enumerate(zip(logits, boxes, strict=True)):
            suffix = "" if j == last else f"_{j}"
            losses |= self.criterion.matched(
                layer_logits[:, skip:], layer_boxes[:, skip:], labels, suffix, queries.valid
            )
            if denoising is not None:
                losses |= self.criterion.denoised(
                    layer_logits[:, :skip], layer_boxes[:, :skip], labels, f"_dn{suffix}", denoising.slots,
                    denoising.groups,
                )  # fmt: skip
        if plan is not None:
            targets = foreground_targets(geometry, self.strides, self.config.foreground_ranges, labels)
            valid = None if self.quirks.padded_foreground_loss else geometry.valid
            c = self.config
            losses["loss_foreground"] = c.foreground_loss_coefficient * foreground_loss(
                plan.scores, targets, valid, c.focal_alpha, c.focal_gamma, self.quirks.naive_focal
            )
        if denoising is None and self.training:
            # Distributed training wants every parameter in every step, also in one without objects.
            losses["loss_class"] = losses["loss_class"] + 0.0 * self.label_embedding.weight.sum()
        return losses

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, DeformableAttention):
            module.reset_parameters()
        elif isinstance(module, SelfAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)
            nn.init.zeros_(module.in_proj_bias)
        elif isinstance(module, FocusDetrForObjectDetection):
            self._init_own()

    def _init_own(self) -> None:
        """The original's start (spec 1.14, last row of the first table)."""
        for part in (self.neck, self.encoder, self.decoder, self.proposals, self.selector):
            for module in part.modules() if part is not None else ():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()
        nn.init.normal_(self.level_embedding)
        nn.init.xavier_uniform_(self.query_content.weight)
        nn.init.normal_(self.label_embedding.weight)
        rare = -4.59511985013459  # -log(99): every class is rare at first, and so is foreground
        for head in (self.proposals.class_head, *self.decoder.class_heads):
            nn.init.constant_(head.bias, rare)
        if self.selector is not None:
            nn.init.constant_(self.selector.score[-1].bias, rare)
        for head in (self.proposals.box_head, *self.decoder.box_heads):
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)

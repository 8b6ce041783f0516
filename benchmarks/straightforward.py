"""Focus-DETR and DINO as one would first write them down: the baseline of the benchmarks.

One line of the definition is one line here, with nothing done to be quick: every tensor of every step is
made, heads run on every token, images are treated one by one, deformable attention is one `grid_sample` a
level, attention two products and a softmax. It computes what the released models compute for images of one
size (quirks "original"), with the weights of one of our models, so that outputs can be compared.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr import FocusDetrForObjectDetection
from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts.denoising import contrastive_denoising
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.queries import DenoisingQueries, Queries

Shapes = list[tuple[int, int]]


class Straightforward(nn.Module):
    """The computation of ``model``, whose weights it uses, in its plainest form.

    Raises:
        FocusDetrError: the model is neither Focus-DETR with quirks "original" nor DINO.
    """

    def __init__(self, model: FocusDetrForObjectDetection) -> None:
        super().__init__()
        c = model.config
        focus = c.token_policy == "focus" and c.switches.frozen_values and c.switches.raw_category_product
        if c.host != "dino" or not (focus or c.token_policy == "dense"):
            raise FocusDetrError(
                f"host={c.host!r}, token_policy={c.token_policy!r}: the straightforward form is that of the "
                "release: host 'dino' with policy 'focus' and quirks='original', or with policy 'dense'"
            )
        self.model, self.config, self.focus = model, c, focus

    def forward(self, pixel_values: Tensor, labels: list[dict[str, Tensor]] | None = None) -> dict[str, Any]:
        """Images (B,3,H,W) of one size -> `logits` (B,Q,k), `pred_boxes` (B,Q,4), with labels `loss`."""
        model = self.model
        # Backbone and neck: one level for each map of the backbone, one more from the last map.
        maps = list(model.backbone.model(pixel_values).feature_maps)
        projections = model.neck.projections
        sources = maps + [maps[-1]] * (len(projections) - len(maps))
        levels = [projection(source) for projection, source in zip(projections, sources, strict=True)]
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        positions = torch.cat([self.position(level, place) for place, level in enumerate(levels)], 1)
        references = reference_points(shapes, x)[:, :, None].expand(len(x), -1, len(shapes), -1)

        plan = None
        if self.focus:
            memory, plan = self.focus_encoder(x, positions, references, shapes)
        else:
            memory = self.dense_encoder(x, positions, references, shapes)
        queries = self.select_queries(memory, shapes)
        denoising = None
        if labels is not None and model.training:
            c = self.config
            denoising = contrastive_denoising(
                labels, model.host.label_embedding, c.denoising_queries, c.label_noise, c.box_noise
            )
        logits, boxes = self.decoder(queries, denoising, memory, shapes)
        skip = 0 if denoising is None else denoising.content.shape[1]
        output: dict[str, Any] = {"logits": logits[-1][:, skip:], "pred_boxes": boxes[-1][:, skip:]}
        if labels is not None:
            geometry = Geometry.unpadded(shapes, len(x), x.device)
            decoded = DecoderOutput([], [], logits=logits, boxes=boxes, queries=queries, denoising=denoising)
            parts = model.host.losses(decoded, labels)
            parts |= model.encoder.losses(Memory(memory, geometry, plan), decoded, model.strides, labels)
            output["loss"] = torch.stack(list(parts.values())).sum()
        return output

    def position(self, level: Tensor, place: int) -> Tensor:
        """Sine encoding of a level's tokens plus the level's embedding: (B,H*W,C)."""
        c = self.config
        image = torch.ones(len(level), *level.shape[2:], device=level.device)
        coordinates = []
        for along in (1, 2):
            counted = image.cumsum(along)
            last = counted.narrow(along, counted.shape[along] - 1, 1)
            coordinates.append((counted + c.position_offset) / (last + 1e-6) * 2 * math.pi)
        encoded = torch.cat([sine(each, c.d_model // 2, c.position_temperature) for each in coordinates], -1)
        return encoded.flatten(1, 2).to(level.dtype) + self.model.level_embedding[place]

    def propose(self, tokens: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """The proposal transform O(tokens) and the anchors' logits, of every token."""
        proposals = self.model.proposals
        assert proposals is not None
        anchors = []
        for place, shape in enumerate(shapes):
            centres = grid(shape, tokens)
            anchors.append(torch.cat([centres, torch.full_like(centres, 0.05 * 2**place)], -1))
        anchor = torch.cat(anchors)[None].expand(len(tokens), -1, -1)
        good = ((anchor > 0.01) & (anchor < 0.99)).all(-1, keepdim=True)
        logits = torch.log(anchor / (1 - anchor)).masked_fill(~good, float("inf"))
        return proposals.norm(proposals.projection(tokens.masked_fill(~good, 0.0))), logits

    def foreground(self, tokens: Tensor, shapes: Shapes) -> Tensor:
        """Foreground logits (B,N), from the coarsest level to the finest."""
        selector: Any = self.model.encoder.selector
        levels = list(tokens.split([height * width for height, width in shapes], 1))
        above: Tensor | None = None
        scores: list[Tensor] = []
        for place in reversed(range(len(levels))):
            z = levels[place]
            if above is not None:
                up = F.interpolate(above[:, None], shapes[place], mode="bilinear", align_corners=True)
                z = z * (1 + selector.modulation[len(levels) - 2 - place] * up.flatten(1)[..., None])
            local, shared = F.gelu(selector.project(selector.norm(z))).chunk(2, -1)
            mean = shared.mean(1, keepdim=True).expand_as(shared)
            score = selector.score(torch.cat([local, mean], -1)).squeeze(-1)
            scores.insert(0, score)
            above = score.unflatten(1, shapes[place])
        return torch.cat(scores, 1)

    def focus_encoder(
        self, x: Tensor, positions: Tensor, references: Tensor, shapes: Shapes
    ) -> tuple[Tensor, TokenPlan]:
        """Layers that each work on fewer of the foreground tokens; values are always those of the neck."""
        c, proposals = self.config, self.model.proposals
        assert proposals is not None
        scores = self.foreground(self.propose(x + positions, shapes)[0], shapes)
        kept = min(int(c.keep_ratio * x.shape[1]) + 1, x.shape[1])
        counts = tuple(max(1, int(share * kept + 1e-6)) for share in c.cascade)
        memory = x
        for layer, count in zip(self.model.encoder.layers, counts, strict=True):
            chosen = scores.topk(count, 1).indices
            tokens, kept_positions = pick(memory, chosen), pick(positions, chosen)
            priority = proposals.class_head(tokens).max(-1).values * scores.gather(1, chosen)
            fine = priority.topk(min(c.num_fine_tokens, count), 1).indices
            attended = pick(tokens, fine)
            mixed = attention(layer.self_attention, attended, pick(kept_positions, fine))
            attended = layer.self_attention_norm(attended + mixed)
            tokens = replace(tokens, fine, attended)
            kept_references = pick(references.flatten(2), chosen).unflatten(-1, references.shape[2:])
            tokens = deformable_layer(layer, tokens, kept_positions, kept_references, x, shapes)
            memory = replace(memory, chosen, tokens)
        chosen = scores.topk(counts[0], 1).indices
        return memory, TokenPlan(scores, chosen, counts, None)

    def dense_encoder(self, x: Tensor, positions: Tensor, references: Tensor, shapes: Shapes) -> Tensor:
        """Layers that all work on every token."""
        for layer in self.model.encoder.layers:
            x = deformable_layer(layer, x, positions, references, x, shapes)
        return x

    def select_queries(self, memory: Tensor, shapes: Shapes) -> Queries:
        """Class and box of every token; the best tokens' boxes, with learned contents."""
        proposals = self.model.proposals
        assert proposals is not None
        features, anchors = self.propose(memory, shapes)
        logits = proposals.class_head(features)
        boxes = (proposals.box_head(features) + anchors.to(features.dtype)).sigmoid()
        content = self.model.host.query_content.weight
        best = logits.max(-1).values.topk(min(len(content), logits.shape[1]), 1).indices
        picked = pick(boxes, best)
        content = content[: best.shape[1]].expand(len(memory), -1, -1)
        return Queries(content, picked.detach(), pick(logits, best), picked, None)

    def decoder(
        self, queries: Queries, denoising: DenoisingQueries | None, memory: Tensor, shapes: Shapes
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and boxes of every layer, denoising queries first."""
        host, decoder = self.model.host, self.model.host.decoder
        states, reference, blocked = queries.content, queries.boxes, None
        if denoising is not None:
            blocked = ~denoising.attention_mask(states.shape[1])
            states = torch.cat([denoising.content, states], 1)
            reference = torch.cat([denoising.boxes.sigmoid(), reference], 1)
        start, all_logits, all_boxes = reference, [], []
        for j, layer in enumerate(decoder.layers):
            x, y, w, h = (reference * 2 * math.pi).unbind(-1)
            encoded = torch.cat([sine(each, self.config.d_model // 2, 10000.0) for each in (y, x, w, h)], -1)
            query_positions = decoder.position_mlp(encoded.to(states.dtype))
            mixed = attention(layer.self_attention, states, query_positions, blocked)
            states = layer.self_attention_norm(states + mixed)
            boxes = reference[:, :, None].expand(-1, -1, len(shapes), -1)
            sampled = deformable(layer.cross_attention, states + query_positions, boxes, memory, shapes)
            states = layer.cross_attention_norm(states + sampled)
            states = layer.ffn_norm(states + feed_forward(layer.ffn, states))
            normed = decoder.norm(states)
            all_logits.append(host.class_heads[j](normed))
            all_boxes.append((host.box_heads[j](normed) + logit(start)).sigmoid())
            start = (host.box_heads[j](states) + logit(reference)).sigmoid()
            reference = start.detach()
        return all_logits, all_boxes


def deformable_layer(
    layer: Any, tokens: Tensor, positions: Tensor, references: Tensor, value: Tensor, shapes: Shapes
) -> Tensor:
    """Deformable attention to ``value`` (B,N,C), then feed-forward."""
    sampled = deformable(layer.deformable_attention, tokens + positions, references, value, shapes)
    tokens = layer.deformable_attention_norm(tokens + sampled)
    return layer.ffn_norm(tokens + feed_forward(layer.ffn, tokens))


def deformable(module: Any, queries: Tensor, references: Tensor, memory: Tensor, shapes: Shapes) -> Tensor:
    """Multi-scale deformable attention, level by level, every sample kept until all are weighed."""
    heads, levels, points = module.heads, module.levels, module.points
    batch, count, channels = queries.shape
    value = module.value_proj(memory).view(batch, -1, heads, channels // heads)
    offsets = module.sampling_offsets(queries).view(batch, count, heads, levels, points, 2)
    weights = module.attention_weights(queries).view(batch, count, heads, levels * points).softmax(-1)
    centres = references[:, :, None, :, None].to(offsets.dtype)
    if references.shape[-1] == 2:
        sizes = torch.tensor([(w, h) for h, w in shapes], device=offsets.device, dtype=offsets.dtype)
        locations = centres + offsets / sizes[None, None, None, :, None]
    else:
        locations = centres[..., :2] + offsets / points * centres[..., 2:] * 0.5
    grids = 2 * locations - 1
    samples = []
    for place, (shape, part) in enumerate(
        zip(shapes, value.split([h * w for h, w in shapes], 1), strict=True)
    ):
        image = part.flatten(2).transpose(1, 2).reshape(batch * heads, channels // heads, *shape)
        samples.append(
            F.grid_sample(image, grids[:, :, :, place].transpose(1, 2).flatten(0, 1), align_corners=False)
        )
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, count, levels * points)
    summed = (torch.cat(samples, -1) * weights).sum(-1)
    return module.output_proj(summed.view(batch, channels, count).transpose(1, 2))


def attention(module: Any, tokens: Tensor, positions: Tensor, blocked: Tensor | None = None) -> Tensor:
    """Multi-head attention, with its weights (B,h,Q,Q) made."""
    channels, heads = tokens.shape[-1], module.heads
    inputs = (tokens + positions, tokens + positions, tokens)
    parts = zip(inputs, module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
    query, key, value = (F.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(1, 2) for x, w, b in parts)
    products = query @ key.transpose(2, 3) / math.sqrt(channels // heads)
    if blocked is not None:
        products = products.masked_fill(blocked, float("-inf"))
    return module.out_proj((products.softmax(-1) @ value).transpose(1, 2).flatten(2))


def feed_forward(module: Any, tokens: Tensor) -> Tensor:
    """Linear, ReLU, linear."""
    return module.linear2(F.relu(module.linear1(tokens)))


def sine(angles: Tensor, channels: int, temperature: float) -> Tensor:
    """(...) -> (..., channels): sine and cosine in turn."""
    powers = temperature ** (2 * (torch.arange(channels, device=angles.device) // 2) / channels)
    scaled = angles[..., None] / powers
    return torch.stack([scaled[..., 0::2].sin(), scaled[..., 1::2].cos()], -1).flatten(-2)


def grid(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Centres (H*W,2), x and y in 0..1, of a level's tokens."""
    height, width = shape
    y = (torch.arange(height, device=like.device) + 0.5) / height
    x = (torch.arange(width, device=like.device) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


def reference_points(shapes: Shapes, like: Tensor) -> Tensor:
    """(1,N,2): every token's centre."""
    return torch.cat([grid(shape, like) for shape in shapes])[None]


def logit(x: Tensor) -> Tensor:
    """Inverse sigmoid, 1e-3 from either end."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=1e-3) / (1 - x).clamp(min=1e-3))


def pick(tokens: Tensor, chosen: Tensor) -> Tensor:
    """Rows chosen (B,K) of tokens (B,N,C), image by image."""
    return torch.stack([rows[indices] for rows, indices in zip(tokens, chosen, strict=True)])


def replace(tokens: Tensor, chosen: Tensor, rows: Tensor) -> Tensor:
    """A copy of tokens (B,N,C) with rows (B,K,C) at chosen (B,K), image by image."""
    result = tokens.clone()
    for image in range(len(tokens)):
        result[image, chosen[image]] = rows[image]
    return result

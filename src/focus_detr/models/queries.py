"""Queries: proposals from the memory (two-stage, mixed selection) and denoising queries in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from focus_detr.losses.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from focus_detr.models.attention import MLP
from focus_detr.models.encoder import take
from focus_detr.models.geometry import Geometry
from focus_detr.models.selection import descending

_BORDER = 0.01  # anchors closer than this to an edge of the image make no proposal
_BASE_SIZE = 0.05  # side of the finest level's anchors, relative to the image


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of x in 0..1, clamped eps from either end."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


@dataclass
class Queries:
    """What the decoder starts from.

    Attributes:
        content: (B,Q,C); boxes: (B,Q,4) boxes_cxcywh, detached.
        class_logits (B,Q,k), proposal_boxes (B,Q,4): the encoder's own predictions, for its loss.
        valid: (B,Q), queries that stand for a token of the image; None when all do.
        proposing: (B,N), where every token predicts, those that do; None when ``valid`` says it, or all do.
        one_class: the predictions tell objects from the rest, in the first logit, and not classes.
    """

    content: Tensor
    boxes: Tensor
    class_logits: Tensor
    proposal_boxes: Tensor
    valid: Tensor | None
    proposing: Tensor | None = None
    one_class: bool = False


class Proposals(nn.Module):
    """The proposal transform O(.) (spec 1.3) and the encoder's two heads on it (spec 1.7)."""

    def __init__(self, channels: int, num_labels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.class_head = nn.Linear(channels, num_labels)
        self.box_head = MLP(channels, channels, channels, 4)

    @staticmethod
    def anchors(geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Anchor logits (B,N,4), +inf where a token makes no proposal, and which make one (B,N)."""
        centres = geometry.centres()
        sides = [_BASE_SIZE * 2.0**level for level in range(len(geometry.shapes))]
        side = torch.cat([centres.new_full((n,), s) for n, s in zip(geometry.lengths, sides, strict=True)])
        side = side[None, :, None].expand(centres.shape[0], -1, 2)
        anchors = torch.cat([centres, side], -1)
        proposing = ((anchors > _BORDER) & (anchors < 1 - _BORDER)).all(-1)
        if geometry.valid is not None:
            proposing = proposing & geometry.valid
        logits = torch.log(anchors / (1 - anchors))
        return logits.masked_fill(~proposing[..., None], float("inf")), proposing

    def transform(self, tokens: Tensor, proposing: Tensor) -> Tensor:
        """O(t): tokens (B,N,C) that make no proposal count as zeros."""
        return self.norm(self.projection(tokens.masked_fill(~proposing[..., None], 0.0)))

    def score(
        self,
        scorer: Callable[[Tensor], Tensor],
        tokens: Tensor,
        positions: Tensor,
        geometry: Geometry,
    ) -> Tensor:
        """What ``scorer`` makes of O(tokens + positions), both (B,N,C), in full precision.

        Scores decide by their order, which half precision changes.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            full = tokens.float() if tokens.dtype.itemsize < 4 else tokens
            _, proposing = self.anchors(geometry)
            return scorer(self.transform(full + positions.to(full.dtype), proposing))

    def select(self, memory: Tensor, geometry: Geometry, content: Tensor, padded_queries: bool) -> Queries:
        """The best tokens of memory (B,N,C) as queries; content (Q,C) is learned, by rank (mixed)."""
        anchors, proposing = self.anchors(geometry)
        features = self.transform(memory, proposing)
        best_class = self.class_head(features).amax(-1)  # (B,N)
        chosen, valid = best_tokens(best_class, geometry, len(content), padded_queries)
        features = take(features, chosen)
        # The box head runs on the chosen tokens only: the others' boxes are never looked at.
        boxes = (self.box_head(features) + take(anchors, chosen).to(features.dtype)).sigmoid()
        return Queries(
            content=content[: chosen.shape[1]].expand(memory.shape[0], -1, -1),
            boxes=boxes.detach(),
            class_logits=self.class_head(features),
            proposal_boxes=boxes,
            valid=valid,
        )


def best_tokens(scores: Tensor, geometry: Geometry, count: int, padded: bool) -> tuple[Tensor, Tensor | None]:
    """Indices (B,Q) of the tokens with the best of scores (B,N), and which are their image's own.

    Args:
        count: how many; fewer where there are fewer tokens.
        padded: padding may be chosen, and all count.
    """
    count = min(count, geometry.num_tokens)
    valid = None
    if geometry.valid is not None and not padded:
        scores = scores.masked_fill(~geometry.valid, torch.finfo(scores.dtype).min)
        valid = torch.arange(count, device=scores.device) < geometry.valid_counts()[:, None]
    return descending(scores.detach(), count), valid


@dataclass
class DenoisingQueries:
    """Noised ground truth as queries (contrastive denoising, spec 1.11).

    Attributes:
        content: (B,D,C); boxes: (B,D,4) logits of boxes_cxcywh; D = slots * groups.
        slots: queries a group and image; the first half positives, the second negatives.
        groups: repetitions, each with its own noise.
    """

    content: Tensor
    boxes: Tensor
    slots: int
    groups: int

    def attention_mask(self, num_queries: int) -> Tensor:
        """(D+Q, D+Q) bool, True where attention is allowed: no group sees another, no query sees a group."""
        denoising = self.slots * self.groups
        group = torch.arange(denoising + num_queries, device=self.content.device) // self.slots
        group = group.clamp(max=self.groups)  # the matching queries are the last "group"
        return (group[:, None] == group[None]) | (group[None] == self.groups)


def make_denoising_queries(
    labels: list[dict[str, Tensor]],
    label_embedding: nn.Embedding,
    budget: int,
    label_noise: float,
    box_noise: float,
) -> DenoisingQueries | None:
    """Draw denoising queries for the ground truth of a batch; None when no process has an object in it.

    Random numbers come from torch's global generator in the original's order. Where the labels of every image
    hold a ``noise_seed`` (one int64), they come from it instead, and an image's noise does not depend on its
    batch.
    """
    if budget == 0:
        return None
    counts = [len(label["class_labels"]) for label in labels]
    most = largest_of_all_processes(max(counts, default=0), label_embedding.weight.device)
    if most == 0:
        return None
    groups = max(1, 2 * budget // (2 * most))
    classes = torch.cat([label["class_labels"] for label in labels])
    boxes = torch.cat([label["boxes"] for label in labels]).to(label_embedding.weight.dtype)
    repeats = 2 * groups
    if all("noise_seed" in label for label in labels):
        noise = [
            _draw(
                len(label["class_labels"]) * repeats,
                label_embedding.num_embeddings,
                label_noise,
                boxes,
                int(label["noise_seed"]),
            )
            for label in labels
        ]
        # Drawn image by image, but laid out repeat by repeat like the rest.
        replace, new_classes, signs, magnitudes = (
            torch.cat([part[i].unflatten(0, (repeats, -1)) for part in noise], 1).flatten(0, 1)
            for i in range(4)
        )
    else:
        replace, new_classes, signs, magnitudes = _draw(
            len(classes) * repeats, label_embedding.num_embeddings, label_noise, boxes, None
        )
    negative = (torch.arange(repeats, device=boxes.device) % 2 == 1).repeat_interleave(len(classes))
    noised_classes = torch.where(replace, new_classes, classes.repeat(repeats))
    magnitudes = magnitudes + negative[:, None].to(magnitudes.dtype)
    known = boxes.repeat(repeats, 1)
    half = known[:, 2:].repeat(1, 2) / 2
    corners = cxcywh_to_xyxy(known) + signs * magnitudes * half * box_noise
    noised_boxes = inverse_sigmoid(xyxy_to_cxcywh(corners.clamp(0, 1)))

    # Slot of each drawn query: its group, then its half (positive or negative), then its place in its image.
    image = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)]).to(boxes.device)
    place = torch.cat([torch.arange(count) for count in counts]).to(boxes.device)
    slot = torch.arange(repeats, device=boxes.device)[:, None] * most + place  # (2G, T)
    batch, slots = len(labels), 2 * most
    content = boxes.new_zeros(batch, groups * slots, label_embedding.embedding_dim)
    logits = boxes.new_zeros(batch, groups * slots, 4)
    where = (image.repeat(repeats), slot.flatten())
    embedded = label_embedding(noised_classes).to(content.dtype)
    return DenoisingQueries(
        content.index_put(where, embedded), logits.index_put(where, noised_boxes), slots, groups
    )


def largest_of_all_processes(count: int, device: torch.device) -> int:
    """The greatest ``count`` of the processes: the queries of a step are laid out alike in all of them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return count
    largest = torch.tensor(count, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def _draw(
    count: int, num_classes: int, label_noise: float, boxes: Tensor, seed: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # The original draws a new class only for the queries it relabels: the order of calls is part of parity.
    device = boxes.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    replace = torch.rand(count, device=device, generator=generator) < label_noise * 0.5
    chosen = replace.nonzero().squeeze(1)
    classes = torch.randint(0, num_classes, (len(chosen),), device=device, generator=generator)
    new_classes = torch.zeros(count, dtype=torch.int64, device=device).index_put((chosen,), classes)
    signs = torch.randint(0, 2, (count, 4), device=device, generator=generator).to(boxes.dtype) * 2 - 1
    magnitudes = torch.rand(count, 4, dtype=boxes.dtype, device=device, generator=generator)
    return replace, new_classes, signs, magnitudes

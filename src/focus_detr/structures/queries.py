"""What a decoder starts from: object queries, and denoising queries beside them."""

# Shapes: B images, Q queries, D denoising ones, C channels, k classes, N tokens of all levels.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Queries:
    """What the decoder starts from.

    Attributes:
        content: (B,Q,C); boxes: (B,Q,4) boxes_cxcywh, detached.
        class_logits (B,Q,k), proposal_boxes (B,Q,4): the encoder's own predictions, for its loss.
        valid: (B,Q), queries that stand for a token of the image; None when all do.
        proposing: (B,N), where every token predicts, those that do; None when ``valid`` says it, or all do.
        tokens: (B,Q) of the memory that they come from; None where that is not said.
        one_class: the predictions tell objects from the rest, in the first logit, and not classes.
    """

    content: Tensor
    boxes: Tensor
    class_logits: Tensor
    proposal_boxes: Tensor
    valid: Tensor | None
    proposing: Tensor | None = None
    tokens: Tensor | None = None
    one_class: bool = False


@dataclass
class DenoisingQueries:
    """Noised ground truth as queries.

    Attributes:
        content: (B,D,C); boxes: (B,D,4) logits of boxes_cxcywh; D = slots * groups.
        slots: queries a group and image; contrastive ones are half positives, then half negatives.
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

    def before(self, content: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Contents (B,D+Q,C) and boxes_cxcywh (B,D+Q,4), these first and the host's own after them."""
        return (
            torch.cat([self.content.to(content.dtype), content], 1),
            torch.cat([self.boxes.to(boxes.dtype).sigmoid(), boxes], 1),
        )

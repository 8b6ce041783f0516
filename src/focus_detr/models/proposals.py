"""Queries: proposals from the memory (two-stage, mixed selection)."""

# Shapes: B images, N tokens of all levels, K of them, L levels, C channels, Q queries, k classes.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from focus_detr.models.heads.boxes import BoxHead, move_boxes
from focus_detr.models.heads.classes import ClassHead
from focus_detr.models.precision import (
    FullPrecision,
    in_full_precision,
    widened,
    without_autocast,
)
from focus_detr.structures.geometry import Geometry, in_graph
from focus_detr.structures.queries import Queries
from focus_detr.structures.rows import descending, gather_rows, smaller
from focus_detr.structures.tokens import Tokens

# Scores (B,N), where the tokens are, how many are wanted, whether padding may be among them
# -> their indices (B,Q), and which are their image's own (B,Q), None for all.
Choose = Callable[[Tensor, Geometry, int, bool], tuple[Tensor, Tensor | None]]

_BORDER = 0.01  # anchors closer than this to an edge of the image make no proposal
_BASE_SIZE = 0.05  # side of the finest level's anchors, relative to the image


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


def likely_tokens(
    scores: Tensor, chosen: Tensor, valid: Tensor | None, least: float
) -> tuple[Tensor, Tensor | None]:
    """Of chosen tokens (B,Q), best first, those with a probability of ``least`` or more; always the best one.

    All images have as many queries as that which has most, and each its own among them.

    Args:
        scores: (B,N) logits; valid: (B,Q) those that are their image's own, None for all.
    """
    likely = scores.detach().gather(1, chosen).sigmoid() >= least
    own = likely | (torch.arange(chosen.shape[1], device=chosen.device) == 0)
    if valid is not None:
        own = own & valid
    if torch.compiler.is_compiling() or in_graph(chosen.device):
        return chosen, own  # shapes of a graph are not a matter of pictures
    most = int(own.sum(1).max())
    chosen, own = chosen[:, :most], own[:, :most]
    return chosen, None if len(own) == 1 else own


class Proposals(FullPrecision):
    """The proposal transform O(.) (spec 1.3) and the encoder's two heads on it (spec 1.7).

    They rank tokens and place boxes, and so compute in full precision.
    """

    def __init__(self, channels: int, num_labels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.class_head = ClassHead(channels, num_labels)
        self.box_head = BoxHead(channels)

    @staticmethod
    def anchors(geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Anchor logits (B,N,4), +inf where a token makes no proposal, and which make one (B,N).

        Made once for a geometry, which scores, queries and losses ask for them.
        """
        if geometry.anchors is None:
            geometry.anchors = Proposals._anchors(geometry)
        return geometry.anchors

    @staticmethod
    def _anchors(geometry: Geometry) -> tuple[Tensor, Tensor]:
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

    @in_full_precision
    def transform(self, tokens: Tensor, proposing: Tensor) -> Tensor:
        """O(t): tokens (B,N,C) that make no proposal count as zeros."""
        return self.norm(self.projection(tokens.masked_fill(~proposing[..., None], 0.0)))

    def score(self, scorer: Callable[[Tensor], Tensor], tokens: Tokens) -> Tensor:
        """What ``scorer`` makes of O(content + positions) (B,N,C), in full precision."""
        content, positions = widened(tokens.content), tokens.positions
        _, proposing = self.anchors(tokens.geometry)
        with without_autocast(content.device):
            return scorer(self.transform(content + positions.to(content.dtype), proposing))

    def select(
        self,
        memory: Tensor,
        geometry: Geometry,
        content: Tensor | int,
        padded_queries: bool,
        choose: Choose = best_tokens,
        from_cells: bool = False,
        least: float = 0.0,
        among: tuple[Tensor, Tensor] | None = None,
    ) -> Queries:
        """The best tokens of memory (B,N,C) as queries.

        Args:
            content: (Q,C), learned, by rank (mixed selection); or the number Q of queries, whose contents are
                those of their tokens.
            choose: which tokens are the best, by their best class.
            from_cells: boxes move from their tokens' cells, in units of these (`move_boxes`); otherwise from
                the anchors, as logits.
            least: class probability that a token needs to become a query (see `likely_tokens`); 0 for none.
            among: tokens (B,K) that may become queries, and which are their image's own (B,K); None for all.
        """
        anchors, proposing = cells(geometry) if from_cells else self.anchors(geometry)
        count = content if isinstance(content, int) else len(content)
        if among is None:
            features = self.transform(memory, proposing)
            best_class = self.class_head(features).amax(-1)  # (B,N)
        else:
            count = smaller(count, among[0].shape[1])
            best_class = self._best_class_among(memory, proposing, *among)
        chosen, valid = choose(best_class, geometry, count, padded_queries)
        if among is not None and geometry.valid is not None:
            # An image that has fewer of them has fewer queries.
            known = best_class.gather(1, chosen) > torch.finfo(best_class.dtype).min
            valid = known if valid is None else known & valid
        if least > 0:
            chosen, valid = likely_tokens(best_class, chosen, valid, least)
        if among is None:
            features = gather_rows(features, chosen)  # (B,Q,C)
        else:
            features = self.transform(gather_rows(memory, chosen), proposing.gather(1, chosen))
        # The box head runs on the chosen tokens only: the others' boxes are never looked at.
        delta, start = self.box_head(features), gather_rows(anchors, chosen).to(features.dtype)
        boxes = move_boxes(delta, start) if from_cells else (delta + start).sigmoid()
        if isinstance(content, int):
            contents = gather_rows(memory, chosen)
        else:
            contents = content[: chosen.shape[1]].expand(memory.shape[0], -1, -1)
        return Queries(
            content=contents,
            boxes=boxes.detach(),
            class_logits=self.class_head(features),
            proposal_boxes=boxes,
            valid=valid,
            tokens=chosen,
        )

    def _best_class_among(self, memory: Tensor, proposing: Tensor, indices: Tensor, own: Tensor) -> Tensor:
        # (B,N) logits of the best classes of tokens (B,K) that are an image's own; the least of others.
        features = self.transform(gather_rows(memory, indices), proposing.gather(1, indices))
        found = self.class_head(features).amax(-1)  # (B,K)
        least = torch.finfo(found.dtype).min
        scores = found.new_full(memory.shape[:2], least)
        return scores.scatter(1, indices, torch.where(own, found, least))


def cells(geometry: Geometry) -> tuple[Tensor, Tensor]:
    """The tokens' own cells, boxes_cxcywh (B,N,4) of their image, and which are in it (B,N)."""
    centres = geometry.centres()
    sides = (1 / geometry.sizes.flip(-1).to(centres.dtype)).unbind(1)  # (B,2) a level
    side = torch.cat([s[:, None].expand(-1, n, -1) for n, s in zip(geometry.lengths, sides, strict=True)], 1)
    inside = geometry.valid
    if inside is None:
        inside = torch.ones(centres.shape[:2], dtype=torch.bool, device=centres.device)
    return torch.cat([centres, side], -1), inside


class ProposalUser(nn.Module):
    """A part that works with the model's proposals.

    The model has them, and their parameters: a part that had them too would save and count them twice.
    """

    def __init__(self, proposals: Proposals | None) -> None:
        super().__init__()
        self._shared = (proposals,)  # a tuple's modules are not registered

    @property
    def proposals(self) -> Proposals | None:
        """The model's; None where no part of it needs any."""
        return self._shared[0]

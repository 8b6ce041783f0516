"""What passes from encoder to decoder, and from decoder to losses."""

# Shapes: B images, N tokens of all levels, K_j those that layer j works on, C channels, Q queries,
# D denoising ones, k classes, h heads, L levels, P points, F fine-grained, H W height and width of a map.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from focus_detr.structures.geometry import Geometry
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.queries import DenoisingQueries, Queries
from focus_detr.structures.rows import scatter_rows


@dataclass
class FineMap:
    """A map of the backbone that is finer than the levels, for heads that ask for it.

    Attributes:
        content: (B,C',H,W); sizes: (B,2) height and width of the image's part of it.
        padded: some image does not fill it; the rest is zero.
    """

    content: Tensor
    sizes: Tensor
    padded: bool


class Projection(Protocol):
    """What an attention makes values of."""

    def project(self, memory: Tensor, valid: Tensor | None) -> Tensor:
        """Memory (B,N,C), of which ``valid`` (B,N) is image, to values (B,N,h,C/h)."""


@dataclass
class Memory:
    """The encoder's output.

    Attributes:
        tokens: (B,N,C), every token of the grid, worked on or not; or what a policy made of them.
        geometry: where they are.
        plan: those that were worked on; None when all were.
        layers: (B,K_j,C) rows of the plan after each layer but the last, for policies that supervise them.
        fine: (B,F) rows of the plan that each layer's self-attention took, -1 for none; empty without dual
            attention.
        found: (B,K_j) foreground logits of the rows of the plan after each layer but the last, where layers
            choose anew.
        positions: (B,N,C), for decoders that attend to every token; deformable ones look at places.
        valid: (B,N), those that are image, where the tokens are not the grid's.
        of_grid: whether the tokens are the grid's; otherwise the first of them are those of the plan.
        fine_map: the backbone's finest map, where a head asks for it.
    """

    tokens: Tensor
    geometry: Geometry
    plan: TokenPlan | None = None
    layers: list[Tensor] = field(default_factory=list)
    fine: list[Tensor] = field(default_factory=list)
    found: list[Tensor] = field(default_factory=list)
    positions: Tensor | None = None
    valid: Tensor | None = None
    of_grid: bool = True
    fine_map: FineMap | None = None

    def on_grid(self) -> Tensor:
        """(B,N,C): the tokens where they are in the grid, zeros where there is none."""
        if self.of_grid:
            return self.tokens
        assert self.plan is not None
        kept, counting = self.plan.kept(0)
        rows = self.tokens[:, : kept.shape[1]] * counting[..., None]
        empty = rows.new_zeros(len(rows), self.geometry.num_tokens, rows.shape[2])
        return scatter_rows(empty, kept, rows)

    def project(self, attention: Projection) -> Tensor:
        """The values (B,N,h,C/h) that queries of a decoder layer sample."""
        return attention.project(self.tokens, self.geometry.valid)

    def fine_tokens(self) -> list[Tensor]:
        """(B,F) of each layer: the tokens of the grid that ``fine`` stands for, -1 for none."""
        if self.plan is None:
            return []
        return [
            torch.where(rows < 0, rows, self.plan.tokens(j).gather(1, rows.clamp(min=0)))
            for j, rows in enumerate(self.fine)
        ]


@dataclass
class DecoderOutput:
    """What a decoder made of its queries, layer by layer, and what heads say of it.

    D+Q: denoising queries, if any, come before the others.

    Attributes:
        states: (B,D+Q,C) after each layer, as heads read them.
        references: (B,D+Q,4) boxes_cxcywh or (B,D+Q,2) points, what each layer's boxes are relative to.
        samples: locations (B,D+Q,h,L,P,2) and weights (B,D+Q,h,L,P) of each layer's deformable attention,
            where they were asked for.
        logits: (B,D+Q,k) of each layer; boxes: (B,D+Q,4) boxes_cxcywh, which some decoders find on their way.
        valid: (B,Q) queries that stand for something of their image; None when all do.
        queries: the encoder's proposals, for their loss; None where nothing is proposed.
        denoising: the denoising queries, if any.
        joint: of each layer, what heads say that has a part in matching (see `losses.targets.Joint`), by the
            name of the head.
    """

    states: list[Tensor]
    references: list[Tensor]
    samples: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    valid: Tensor | None = None
    queries: Queries | None = None
    denoising: DenoisingQueries | None = None
    joint: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_denoising(self) -> int:
        """D: denoising queries, which come first."""
        return 0 if self.denoising is None else self.denoising.content.shape[1]

    @property
    def last(self) -> Tensor:
        """(B,Q,C): the states after the last layer, without the denoising queries."""
        return self.states[-1][:, self.num_denoising :]

    @property
    def initial_boxes(self) -> Tensor:
        """(B,Q,4) boxes_cxcywh, or (B,Q,2) points, that the first layer looked at."""
        return self.references[0][:, self.num_denoising :]

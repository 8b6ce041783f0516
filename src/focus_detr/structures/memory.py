"""What passes from encoder to decoder, and from decoder to losses."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from focus_detr.structures.geometry import Geometry
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.queries import DenoisingQueries, Queries


@dataclass
class Memory:
    """The encoder's output.

    Attributes:
        tokens: (B,N,C), every token of the grid, worked on or not; or what a policy made of them.
        geometry: where they are.
        plan: those that were worked on; None when all were.
        layers: (B,K_j,C) rows of the plan after each layer but the last, for policies that supervise them.
        positions: (B,N,C), for decoders that attend to every token; deformable ones look at places.
        valid: (B,N), those that are image, where the tokens are not the grid's.
    """

    tokens: Tensor
    geometry: Geometry
    plan: TokenPlan | None = None
    layers: list[Tensor] = field(default_factory=list)
    positions: Tensor | None = None
    valid: Tensor | None = None


@dataclass
class Decoded:
    """Predictions of every decoder layer, and what they started from.

    Attributes:
        logits: (B,D+Q,k) of each layer, denoising queries first; boxes: (B,D+Q,4) boxes_cxcywh.
        initial_boxes: (B,Q,4) boxes_cxcywh the first layer looked at, or (B,Q,2) points.
        valid: (B,Q) queries that stand for something of their image; None when all do.
        queries: the encoder's proposals, for their loss; None where nothing is proposed.
        denoising: the denoising queries, if any.
        samples: locations (B,Q,h,L,P,2) and weights (B,Q,h,L,P) of each layer's deformable attention, where
            they were asked for.
    """

    logits: list[Tensor]
    boxes: list[Tensor]
    initial_boxes: Tensor
    valid: Tensor | None = None
    queries: Queries | None = None
    denoising: DenoisingQueries | None = None
    samples: list[tuple[Tensor, Tensor]] = field(default_factory=list)

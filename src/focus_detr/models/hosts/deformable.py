"""Deformable DETR: learned queries or proposals, boxes refined layer by layer (spec 4.1)."""

# Shapes: B images, Q queries, N tokens of all levels, L levels, C channels, h heads, k classes.

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.models.heads.boxes import BoxHead, locate, refine_boxes
from focus_detr.models.heads.classes import ClassHead, classify
from focus_detr.models.hosts.base import HOSTS, Host, Labels
from focus_detr.models.hosts.decoder import decoder_layers, self_attention_mask
from focus_detr.models.hosts.thinning import ThinningOptions
from focus_detr.models.layers import Layers, first
from focus_detr.models.objective import objective_of
from focus_detr.models.position import sine_of_boxes
from focus_detr.models.precision import FullLinear
from focus_detr.models.proposals import Proposals, best_tokens
from focus_detr.models.registry import read_options
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.queries import DenoisingQueries, Queries
from focus_detr.structures.rows import gather_rows

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class DeformableOptions(ThinningOptions):
    """Variants of Deformable DETR; all off is the plain, single-stage one."""

    two_stage: bool = False
    """Queries are the memory's best proposals; otherwise learned, with learned points to start from."""
    box_refinement: bool = False
    """Each layer starts from the boxes of the one before, and has heads of its own."""
    content_from_memory: bool = False
    """Two-stage queries start with the contents of their tokens (Efficient DETR), as in Sparse DETR."""
    class_proposals: bool = False
    """Proposals are ranked by their best class and learn classes; otherwise all objects are one class."""
    logit_eps: float = 1e-5
    """How near to 0 and 1 the logit of a coordinate is taken; detrex has 1e-3."""


@HOSTS.register("deformable-detr")
class DeformableHost(Host):
    """Queries with fixed positions search the memory; denoising is not part of it."""

    takes_layers = True
    options_class = DeformableOptions
    options: DeformableOptions
    coordinates_in_own_precision = True

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        c, options = config, self.options
        assert c.num_labels is not None  # filled in by the configuration
        width = c.d_model
        if options.two_stage:
            content = 1 if options.content_from_memory else 2  # positions alone, or contents too
            self.query_projection = nn.Linear(2 * width, content * width)
            self.query_norm = nn.LayerNorm(content * width)
        else:
            self.query_content = nn.Embedding(c.num_queries, width)
            self.query_position = nn.Embedding(c.num_queries, width)
            self.query_point = FullLinear(width, 2)
        self.decoder = DeformableDecoder(c, options.logit_eps)
        heads = c.decoder_layers if options.box_refinement else 1  # one a layer, or one for all
        self.class_heads = Layers(ClassHead(width, c.num_labels) for _ in range(heads))
        self.box_heads = Layers(BoxHead(width) for _ in range(heads))
        self.objective = objective_of(c, eps=1e-12)  # the original adds nothing, and fails on empty boxes
        self.quirks = c.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        read_options(cls.options_class, config.host_options, "host_options").check_thinning()

    @classmethod
    def two_stage(cls, config: FocusDetrConfig) -> bool:
        return bool(config.host_options.get("two_stage", False))

    def forward(
        self,
        memory: Memory,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        *,
        with_samples: bool = False,
        layers: int | None = None,
    ) -> DecoderOutput:
        queries: Queries | None
        if self.options.two_stage:
            queries = self._propose(memory)
            content, positions, start = self._from_proposals(queries)
            valid = queries.valid
        else:
            batch = memory.tokens.shape[0]
            content = self.query_content.weight.expand(batch, -1, -1)
            positions = self.query_position.weight.expand(batch, -1, -1)
            start, valid = self.query_point(positions).sigmoid(), None
            queries = self.proposals_to_teach(memory)
        allowed = self_attention_mask(None, valid)
        refining = self.box_heads if self.options.box_refinement else None
        output: DecoderOutput = self.decoder(
            content,
            positions,
            start,
            self.options.thin(memory),
            refining,
            allowed,
            with_samples,
            layers=layers,
        )
        output.logits = classify(self.class_heads, output.states)
        if refining is None:
            refine = partial(refine_boxes, eps=self.options.logit_eps)
            output.boxes = locate(self.box_heads, output.states, output.references, refine)
        output.valid, output.queries = valid, queries
        return output

    def start(self) -> None:
        if not self.options.two_stage:
            init.normal_(self.query_content.weight)
            init.normal_(self.query_position.weight)
            self.box_heads[0].start_small()

    def _propose(self, memory: Memory) -> Queries:
        # Every token's class logits and box, all of which are taught; the best become queries.
        proposals = self.proposals
        assert proposals is not None
        tokens, geometry = memory.tokens, memory.geometry
        anchors, proposing = proposals.anchors(geometry)
        features = proposals.transform(tokens, proposing)
        logits = proposals.class_head(features)
        boxes = proposals.box_head(features) + anchors.to(features.dtype)
        score = logits.amax(-1) if self.options.class_proposals else logits[..., 0]
        padded = self.quirks.padded_queries
        chosen, valid = best_tokens(score, geometry, self.config.num_queries, padded)
        return Queries(
            content=gather_rows(tokens, chosen),
            boxes=gather_rows(boxes, chosen).detach().sigmoid(),
            class_logits=logits,
            proposal_boxes=boxes.sigmoid(),
            valid=valid,
            proposing=None if padded else geometry.valid,
            one_class=not self.options.class_proposals,
        )

    def _from_proposals(self, queries: Queries) -> tuple[Tensor, Tensor, Tensor]:
        encoded = sine_of_boxes(queries.boxes, self.config.d_model)
        projected = self.query_norm(self.query_projection(encoded.to(queries.content.dtype)))
        if self.options.content_from_memory:
            return queries.content, projected, queries.boxes
        positions, content = projected.chunk(2, -1)
        return content, positions, queries.boxes


class DeformableDecoder(nn.Module):
    """Layers over queries whose positions stay.

    Args:
        eps: how near to 0 and 1 the logit of a coordinate is taken.
    """

    def __init__(self, config: FocusDetrConfig, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.layers = Layers(decoder_layers(config))

    def forward(
        self,
        content: Tensor,
        positions: Tensor,
        start: Tensor,
        memory: Memory,
        box_heads: Layers[BoxHead] | None = None,
        allowed: Tensor | None = None,
        with_samples: bool = False,
        *,
        layers: int | None = None,
    ) -> DecoderOutput:
        """The states of every layer and what its boxes are relative to; the boxes too, where it refined them.

        Args:
            content, positions: (B,Q,C); start: (B,Q,2) points or (B,Q,4) boxes_cxcywh.
            box_heads: one a layer, each of which moves the boxes that the next layer starts from; None
                leaves them where they start.
            allowed: True where a query may attend to another; broadcasts to (B,h,Q,Q).
            layers: run so many, the first ones; None runs all.
        """
        geometry: Geometry = memory.geometry
        ratios = geometry.valid_ratios(start.dtype)[:, None]  # (B,1,L,2)
        output = DecoderOutput([], [])
        states, reference = content, start
        for j, layer in first(self.layers, layers):
            canvas = reference[:, :, None] * ratios.repeat(1, 1, 1, reference.shape[-1] // 2)
            value = memory.project(layer.cross_attention)
            encoded = self.query_positions(j, positions, states, reference, canvas)
            states, sampled = layer(states, encoded, canvas, value, geometry.shapes, allowed)
            if with_samples:
                output.samples.append(layer.cross_attention.places(sampled, geometry.shapes))
            output.states.append(states)
            output.references.append(reference)
            if box_heads is not None:
                output.boxes.append(refine_boxes(box_heads[j](states), reference, self.eps))
                reference = output.boxes[-1].detach()
        return output

    def query_positions(
        self, layer: int, fixed: Tensor, states: Tensor, reference: Tensor, canvas: Tensor
    ) -> Tensor:
        """What joins queries and keys in a layer, (B,Q,C).

        Args:
            fixed: the positions (B,Q,C) that were given; states: (B,Q,C).
            reference: (B,Q,2 or 4) where the layer starts from; canvas: (B,Q,L,2 or 4) on each level.
        """
        return fixed

"""DINO: two-stage mixed query selection, contrastive denoising, look-forward-twice (spec 1.7, 1.8, 1.11)."""

# Shapes: B images, N tokens of all levels, Q queries, D denoising queries, C channels, h heads,
# k classes.

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.errors import FocusDetrError, did_you_mean
from focus_detr.losses.objective import CLASS_LOSSES
from focus_detr.models.heads.boxes import BoxHead, locate, move_boxes, refine_boxes
from focus_detr.models.heads.classes import ClassHead, classify
from focus_detr.models.hosts.base import HOSTS, Host, Labels
from focus_detr.models.hosts.decoder import Decoder, decoder_layers, self_attention_mask
from focus_detr.models.hosts.denoising import NoiseOptions, check_noise, contrastive_denoising
from focus_detr.models.hosts.precedence import Precedence
from focus_detr.models.hosts.thinning import ThinningOptions, likely_foreground
from focus_detr.models.key_aware import KeyAwareOptions
from focus_detr.models.layers import Layers
from focus_detr.models.objective import objective_of
from focus_detr.models.options import check_ranges
from focus_detr.models.proposals import Proposals, best_tokens
from focus_detr.models.registry import read_options
from focus_detr.structures.budget import SMALLEST
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.queries import DenoisingQueries, Queries
from focus_detr.structures.rows import gather_rows

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class DinoOptions(NoiseOptions, KeyAwareOptions, ThinningOptions):
    """What can be told to DINO."""

    denoising_queries: int = 100
    """Budget of contrastive denoising queries in training; 0 switches them off."""
    content_from_memory: bool = False
    """Queries start with the contents of their tokens (Efficient DETR); otherwise with learned ones."""
    boxes_from_cells: bool = False
    """Proposals start from the cells of their tokens, and boxes move in units of their sides, as in detectors
    with anchors; otherwise proposals start from fixed sizes, and boxes move as logits."""
    precedence: bool = False
    """Queries are told how much they overlap one of their class that comes before them; proposals may then
    repeat themselves, and are taught one-to-many."""
    class_loss: str = "focal"
    """What a class is taught: "focal", to be 1 where a match is; "varifocal" and "matchability" (DEIM), to be
    as likely as the match's box fits."""
    least_overlap: float = 0.0
    """Matches that overlap their object less (IoU) teach no box."""
    proposal_share: float = 1.0
    """Share of the tokens, those with the best foreground scores, that may become queries: of all others no
    class is scored."""
    query_threshold: float = 0.0
    """Class probability that a token needs to become a query, outside of training: pictures with little in
    them have few queries. 0 takes the best ``num_queries``, whatever they are."""


@HOSTS.register("dino")
class DinoHost(Host):
    """The best tokens propose boxes, learned contents search there; denoising queries teach in training."""

    takes_start = True
    takes_layers = True
    options_class = DinoOptions
    options: DinoOptions
    added: ClassVar[dict[str, float]] = {}
    """What the objective adds to areas and probabilities, where it is not the usual (see `Objective`)."""

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        c = config
        assert c.num_labels is not None  # filled in by the configuration
        if not self.options.content_from_memory:
            self.query_content = nn.Embedding(c.num_queries, c.d_model)
        self.label_embedding = nn.Embedding(c.num_labels, c.d_model)
        self.refine = move_boxes if self.options.boxes_from_cells else refine_boxes
        self.decoder = Decoder(decoder_layers(c, self.options), c.d_model, self.refine)
        self.class_heads = Layers(ClassHead(c.d_model, c.num_labels) for _ in range(c.decoder_layers))
        self.box_heads = Layers(BoxHead(c.d_model) for _ in range(c.decoder_layers))
        self.precedence = Precedence(c.d_model) if self.options.precedence else None
        o = self.options
        self.objective = objective_of(
            c,
            class_loss=o.class_loss,
            least_overlap=o.least_overlap,
            proposals_repeat=o.precedence,
            **self.added,
        )
        self.quirks = c.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options: DinoOptions = read_options(cls.options_class, config.host_options, "host_options")
        check_noise(options)
        options.check_thinning()
        check_ranges(
            options,
            "host_options",
            denoising_queries=(0, math.inf),
            least_overlap=(0, 1),
            proposal_share=(SMALLEST, 1),
            query_threshold=(0, 1),
        )
        if options.class_loss not in CLASS_LOSSES:
            raise FocusDetrError(
                f"host_options['class_loss']={options.class_loss!r}: not known"
                f"{did_you_mean(options.class_loss, CLASS_LOSSES)}; known: {', '.join(CLASS_LOSSES)}"
            )
        if options.boxes_from_cells and config.token_policy == "sparse":
            raise FocusDetrError(
                "host_options['boxes_from_cells']=True: token_policy='sparse' has boxes of its own, which "
                "start from fixed sizes; use another policy"
            )

    def forward(
        self,
        memory: Memory,
        labels: Labels | None = None,
        denoising: DenoisingQueries | None = None,
        *,
        with_samples: bool = False,
        layers: int | None = None,
        start: Queries | None = None,
    ) -> DecoderOutput:
        assert self.proposals is not None
        tokens, geometry = memory.tokens, memory.geometry
        learned = None if self.options.content_from_memory else self.query_content.weight
        share = self.options.proposal_share
        proposed = self.proposals.select(
            tokens,
            geometry,
            self.config.num_queries if learned is None else learned,
            self.quirks.padded_queries,
            self.choose,
            from_cells=self.options.boxes_from_cells,
            least=0.0 if self.training else self.options.query_threshold,
            among=None if share == 1 else likely_foreground(memory, share),
        )
        queries = proposed if start is None else self._started(start, tokens)
        if labels is not None and denoising is None:
            denoising = self._draw_denoising(labels)
        content, boxes, mask = queries.content, queries.boxes, None
        if self.precedence is not None:
            content = content + self.precedence(queries.class_logits, boxes).to(content.dtype)
        if denoising is not None:
            # They go through the same layers beside the others, and no query may see an answer.
            mask = denoising.attention_mask(content.shape[1])
            content, boxes = denoising.before(content, boxes)
        allowed = self_attention_mask(mask, queries.valid)  # to (B,h,D+Q,D+Q)
        output: DecoderOutput = self.decoder(
            content,
            boxes,
            self.options.thin(memory),
            self.box_heads,
            allowed,
            self.quirks.canvas_query_position,
            with_samples,
            layers=layers,
        )
        output.logits = classify(self.class_heads, output.states)
        output.boxes = locate(self.box_heads, output.states, output.references, self.refine)
        output.valid, output.queries, output.denoising = queries.valid, proposed, denoising
        return output

    def choose(
        self, scores: Tensor, geometry: Geometry, count: int, padded: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Which tokens propose, as `best_tokens`."""
        return best_tokens(scores, geometry, count, padded)

    def start(self) -> None:
        if not self.options.content_from_memory:
            init.xavier_uniform_(self.query_content.weight)
        init.normal_(self.label_embedding.weight)

    def losses(self, decoded: DecoderOutput, labels: Labels) -> dict[str, Tensor]:
        parts = self.objective(decoded, labels)
        if decoded.denoising is None and self.training:
            # Distributed training wants every parameter in every step, also in one without objects.
            parts["loss_class"] = parts["loss_class"] + 0.0 * self.label_embedding.weight.sum()
        return parts

    def _started(self, start: Queries, tokens: Tensor) -> Queries:
        # Another memory's queries: their boxes, and of contents that a memory gives, this one's (B,N,C).
        if not self.options.content_from_memory:
            return start
        assert start.tokens is not None
        return replace(start, content=gather_rows(tokens, start.tokens))

    def _draw_denoising(self, labels: Labels) -> DenoisingQueries | None:
        o = self.options
        return contrastive_denoising(
            labels, self.label_embedding, o.denoising_queries, o.label_noise, o.box_noise
        )

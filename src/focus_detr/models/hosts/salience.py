"""Salience-DETR's host: levels fused, proposals apart, classes taught by how well boxes fit."""

# Shapes: B images, N tokens of all levels, Q queries, C channels.

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts.base import HOSTS, Labels
from focus_detr.models.hosts.dino import DinoHost, DinoOptions
from focus_detr.models.hosts.salience_fusion import Fusion
from focus_detr.models.hosts.salience_proposals import best_apart
from focus_detr.models.options import check_ranges
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.queries import DenoisingQueries, Queries

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class SalienceHostOptions(DinoOptions):
    """DINO's options, and what Salience-DETR does otherwise, each of which can be left out."""

    fusion: bool = True
    """Levels are fused after the encoder, top-down and bottom-up."""
    apart: bool = True
    """Of neighbouring tokens the best one proposes, and no other."""
    candidates: int = 4
    """So many times as many tokens as there are queries, the best ones, are looked at for that."""
    class_loss: str = "varifocal"


@HOSTS.register("salience-detr")
class SalienceHost(DinoHost):
    """DINO on fused levels, its queries spread over the image."""

    options_class = SalienceHostOptions
    options: SalienceHostOptions
    canvas_multiple = 32
    # The original adds nothing to areas, and fails on empty boxes; this is lost in any that is not.
    added = {"eps": 1e-20, "class_eps": 1e-6}

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        c = config
        self.fusion = Fusion(c.d_model, c.num_levels) if self.options.fusion else None

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options = read_options(cls.options_class, config.host_options, "host_options")
        check_ranges(options, "host_options", candidates=(1, math.inf))
        if options.apart and options.proposal_share != 1:
            raise FocusDetrError(
                f"host_options['proposal_share']={options.proposal_share}: proposals that keep apart are "
                "chosen among all tokens; use 1.0, or apart: false"
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
        if self.fusion is not None:
            fused: Tensor = self.fusion(memory.tokens, memory.geometry, self.quirks.padded_fusion)
            memory = replace(memory, tokens=fused)
        return super().forward(
            memory, labels, denoising, with_samples=with_samples, layers=layers, start=start
        )

    def choose(
        self, scores: Tensor, geometry: Geometry, count: int, padded: bool
    ) -> tuple[Tensor, Tensor | None]:
        if not self.options.apart:
            return super().choose(scores, geometry, count, padded)
        return best_apart(scores, geometry, count, padded, self.options.candidates * count)

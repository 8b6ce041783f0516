"""Salience: the focus policy, taught how central a token is in an object of any scale (spec 4.5).

The token policy of Salience-DETR. Against the focus policy each level has a quota of its own, labels are
graded, and what the last layer does not work on is marked as background.
"""

# Shapes: B images, N tokens of all levels, K kept, C channels.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import initialization as init

from focus_detr.losses.salience import salience_loss, salience_targets
from focus_detr.models.policies.base import POLICIES
from focus_detr.models.policies.focus import FocusPolicy
from focus_detr.models.policies.foreground import ForegroundOptions, check_quotas
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.structures.budget import Budget
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig

_CELLS = 200  # rows and columns that have an embedding of their own, as released


@dataclass(frozen=True)
class SalienceOptions(ForegroundOptions):
    """The focus policy's options but for ``keep_ratio``, and those of Salience-DETR."""

    level_quotas: tuple[float, ...] = (0.4, 0.8, 1.0, 1.0)
    """Share of each level's tokens that may be kept, fine to coarse; takes the place of ``keep_ratio``."""
    background_embedding: bool = True
    """Tokens outside the last layer's set are marked by a learned embedding of their row and column."""


@POLICIES.register("salience")
class SaliencePolicy(FocusPolicy):
    """Foreground selection by salience, level by level, and an embedding for the background."""

    has_keep_ratio = False  # levels have quotas instead
    options_class = SalienceOptions
    options: SalienceOptions

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        self.background = BackgroundEmbedding(config.d_model) if self.options.background_embedding else None

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options = read_options(cls.options_class, config.policy_options, "policy_options")
        check_quotas(options.level_quotas, config)

    def start(self) -> None:
        if self.background is not None:
            self.background.reset_parameters()

    def select(self, scores: Tensor, geometry: Geometry, budget: Budget | None) -> TokenPlan:
        return self._by_quotas(scores, geometry, budget, self.options.level_quotas)

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        memory = super().forward(tokens, plan)
        if self.background is not None:
            assert plan is not None
            marks = self.background(tokens.geometry).to(memory.tokens.dtype)
            memory.tokens = memory.tokens + marks * self._background(plan, tokens.geometry)[..., None]
        return memory

    def _background(self, plan: TokenPlan, geometry: Geometry) -> Tensor:
        # (B,N): the image's tokens that the last layer does not work on.
        indices, rows = plan.kept(len(plan.counts) - 1)
        if self.quirks.batch_counts:
            rows = torch.ones_like(rows)
        assert plan.scores is not None
        outside = torch.ones_like(plan.scores, dtype=torch.bool) if geometry.valid is None else geometry.valid
        return outside.scatter(1, indices, outside.gather(1, indices) & ~rows)

    def losses(
        self, memory: Memory, decoded: DecoderOutput, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The salience of tokens, from the boxes."""
        c, geometry = self.config, memory.geometry
        assert memory.plan is not None and memory.plan.scores is not None
        canvas = None
        if self.quirks.canvas_centres:
            height, width = geometry.shapes[0]
            canvas = (height * strides[0], width * strides[0])
        targets = salience_targets(geometry, self.foreground_ranges, labels, canvas)
        valid = None if self.quirks.padded_foreground_loss else geometry.valid
        loss = salience_loss(memory.plan.scores, targets, valid, c.focal_alpha, c.focal_gamma)
        return {"loss_foreground": self.options.foreground_loss_coefficient * loss}


class BackgroundEmbedding(nn.Module):
    """A learned vector for each place of a level: half for its column, half for its row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.columns = nn.Parameter(torch.empty(_CELLS, channels // 2))
        self.rows = nn.Parameter(torch.empty(_CELLS, channels // 2))

    def forward(self, geometry: Geometry) -> Tensor:
        """(N,C); beyond the last row or column of the tables, theirs."""
        levels = []
        for height, width in geometry.shapes:
            column = self.columns[torch.arange(width, device=self.columns.device).clamp(max=_CELLS - 1)]
            row = self.rows[torch.arange(height, device=self.rows.device).clamp(max=_CELLS - 1)]
            place = [column.expand(height, -1, -1), row[:, None].expand(-1, width, -1)]
            levels.append(torch.cat(place, -1).flatten(0, 1))
        return torch.cat(levels)

    def reset_parameters(self) -> None:
        """As released: uniform in 0..1."""
        init.uniform_(self.columns)
        init.uniform_(self.rows)

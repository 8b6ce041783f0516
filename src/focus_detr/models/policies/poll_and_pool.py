"""Poll and pool: the tokens that matter one by one, the rest as a few abstract ones (PnP-DETR, spec 4.3)."""

# Shapes: B images, N tokens, K polled, M pooled, C channels.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_detr.errors import FocusDetrError
from focus_detr.losses.whole_step import mean_of_images
from focus_detr.models.layers import Layers
from focus_detr.models.options import check_keep_ratio
from focus_detr.models.policies.base import POLICIES, TokenPolicy
from focus_detr.models.policies.full_attention import attend, full_attention_layers
from focus_detr.models.precision import FullMLP
from focus_detr.models.proposals import Proposals
from focus_detr.models.registry import read_options
from focus_detr.models.selection import share
from focus_detr.structures.budget import Budget
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import descending, gather_rows
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class PollAndPoolOptions:
    """What can be told to PnP-DETR's policy."""

    keep_ratio: float = 0.5
    """Share of tokens that are polled."""
    abstract_tokens: int = 30
    """Tokens that stand for all that is not polled."""
    training_keep_ratio: tuple[float, ...] = (1 / 3, 0.8)
    """Bounds between which each training step draws its keep ratio, so that any will do later."""
    score_loss_coefficient: float = 1e-4


@POLICIES.register("poll-and-pool")
class PollAndPoolPolicy(TokenPolicy):
    """Polls the ``keep_ratio`` of tokens with the best scores."""

    single_scale = True
    options_class = PollAndPoolOptions
    options: PollAndPoolOptions
    has_keep_ratio = True
    takes_budget = True

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(config, proposals)
        width = config.d_model
        self.scorer = FullMLP(width, width, 1)
        self.pool_weights = nn.Linear(width, self.options.abstract_tokens)
        self.pool_values = nn.Linear(width, width)
        self.layers = Layers(full_attention_layers(config))
        self.quirks = config.switches

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        super().check(config)
        options: PollAndPoolOptions = read_options(cls.options_class, config.policy_options, "policy_options")
        check_keep_ratio(options)
        bounds = options.training_keep_ratio
        if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= 1:
            raise FocusDetrError(
                f"policy_options['training_keep_ratio']={list(bounds)}: must be two ratios of (0, 1], the "
                "smaller first; PnP-DETR draws from 1/3 to 0.8"
            )
        if options.abstract_tokens < 1:
            raise FocusDetrError(
                f"policy_options['abstract_tokens']={options.abstract_tokens}: must be at least 1; PnP-DETR "
                "has 30"
            )

    def plan(self, tokens: Tokens, budget: Budget | None = None) -> TokenPlan:
        """The tokens to poll: floor(ratio * N) of each image, the same in all layers."""
        return self.select(self.score(tokens), tokens.geometry, budget)

    def score(self, tokens: Tokens) -> Tensor:
        return self.scorer(tokens.content)[..., 0]

    def select(self, scores: Tensor, geometry: Geometry, budget: Budget | None) -> TokenPlan:
        ratio = self._ratio() if budget is None else budget.share
        count, valid_counts, ranked = max(1, share(ratio, geometry.num_tokens)), None, scores.detach()
        if geometry.valid is not None:
            ranked = ranked.masked_fill(~geometry.valid, torch.finfo(ranked.dtype).min)
            polled = share(ratio, geometry.valid_counts()).clamp(min=1)  # (B,), of each image
            if self.quirks.batch_counts:
                count = int(polled.max())
            valid_counts = polled[:, None].expand(-1, len(self.layers))
        return TokenPlan(scores, descending(ranked, count), (count,) * len(self.layers), valid_counts)

    def _ratio(self) -> float:
        if not self.training:
            return self.options.keep_ratio
        low, high = self.options.training_keep_ratio
        return low + (high - low) * torch.rand(()).item()

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        assert plan is not None and plan.scores is not None
        content, geometry = tokens.content, tokens.geometry
        features = F.layer_norm(content, content.shape[-1:])
        # Features times scores: it is how the scores learn which tokens help.
        chance = plan.scores.gather(1, plan.indices).sigmoid()[..., None]
        polled = gather_rows(features, plan.indices) * chance.to(content.dtype)
        rest, some = self._unpolled(plan, geometry)
        shares = self.pool_weights(features)
        shares = shares.masked_fill(~rest[..., None], torch.finfo(shares.dtype).min)
        shares = shares.softmax(1).transpose(1, 2)  # (B,M,N)
        pooled = shares @ self.pool_values(features)  # (B,M,C)

        positions = tokens.positions
        positions = torch.cat([gather_rows(positions, plan.indices), shares @ positions], 1)
        rows = plan.rows(0)
        valid = None
        if rows is not None or not some:
            counting = torch.ones_like(plan.indices, dtype=torch.bool) if rows is None else rows
            valid = torch.cat([counting, rest.any(1, keepdim=True).expand(-1, pooled.shape[1])], 1)
        memory = attend(self.layers, torch.cat([polled, pooled], 1), positions, valid)
        return Memory(memory, geometry, plan, positions=positions, valid=valid, of_grid=False)

    @staticmethod
    def _unpolled(plan: TokenPlan, geometry: Geometry) -> tuple[Tensor, bool]:
        """(B,N), the image's tokens that are not polled; whether a grid without padding has any."""
        assert plan.scores is not None
        rows = plan.rows(0)
        polled = torch.ones_like(plan.indices, dtype=torch.bool) if rows is None else rows
        rest = ~torch.zeros_like(plan.scores, dtype=torch.bool).scatter(1, plan.indices, polled)
        if geometry.valid is not None:
            rest = rest & geometry.valid
        return rest, plan.counts[0] < geometry.num_tokens

    def losses(
        self, memory: Memory, decoded: DecoderOutput, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """A slight pull of the polled tokens' scores towards zero."""
        plan = memory.plan
        assert plan is not None and plan.scores is not None
        chance, rows = plan.scores.gather(1, plan.indices).sigmoid(), plan.rows(0)
        if rows is None or self.quirks.batch_counts:
            per_image = chance.mean(1)
        else:
            per_image = (chance * rows).sum(1) / rows.sum(1)
        return {"loss_token_scores": self.options.score_loss_coefficient * mean_of_images(per_image)}

"""What every token policy is."""

# Shapes: B images, N tokens of all levels, C channels.

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts import HOSTS
from focus_detr.models.proposals import Proposals, ProposalUser
from focus_detr.models.registry import NoOptions, Registry, read_options
from focus_detr.structures.auto_budget import AutoBudget, BudgetLike
from focus_detr.structures.budget import AUTO, Budget, LayerCounts
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import DecoderOutput, Memory
from focus_detr.structures.plan import TokenPlan
from focus_detr.structures.rows import descending
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


Ranking: TypeAlias = Callable[[Tensor, Geometry], Tensor]
"""Foreground logits (B,N) to what tokens are ranked by, (B,N)."""


class TokenPolicy(ProposalUser):
    """An encoder: scores tokens, plans which of them each layer works on, and executes the plan.

    A policy overrides `forward`, and what else it does otherwise. It is registered by
    ``@POLICIES.register(name)``, and chosen by ``FocusDetrConfig(token_policy=name, policy_options={...})``.

    Attributes:
        single_scale: it works on one coarse level, and with the hosts that do.
        options_class: dataclass of its own options.
        needs_proposals: whether it uses the proposal transform or the encoder's class head.
        needs_samples: whether its losses look at where the decoder sampled.
        has_keep_ratio: whether the configuration's ``keep_ratio`` says how many tokens it keeps.
        takes_budget: whether a call may say how many.
    """

    single_scale: ClassVar[bool] = False
    options_class: ClassVar[type] = NoOptions
    needs_proposals: ClassVar[bool] = False
    needs_samples: ClassVar[bool] = False
    has_keep_ratio: ClassVar[bool] = False
    takes_budget: ClassVar[bool] = False

    def __init__(self, config: FocusDetrConfig, proposals: Proposals | None = None) -> None:
        super().__init__(proposals)
        self.config = config
        self.options: Any = read_options(self.options_class, config.policy_options, "policy_options")

    def change_options(self, **changes: Any) -> None:
        """Other options for a policy that is there already; parameters must not depend on them."""
        self.options = dataclasses.replace(self.options, **changes)

    @classmethod
    def works_with(cls, host: str) -> bool:
        """Whether its memory is what the host of this name decodes."""
        return HOSTS[host].single_scale == cls.single_scale

    @classmethod
    def check(cls, config: FocusDetrConfig) -> None:
        """Raise FocusDetrError where ``config`` cannot be used with this policy."""
        read_options(cls.options_class, config.policy_options, "policy_options")
        if config.budget is not None and not cls.takes_budget:
            raise _no_budget(config.budget, config.token_policy)
        for name in ("value_share", "proposal_share"):
            share = config.host_options.get(name, 1.0)
            if share != 1 and not cls.takes_budget:
                raise FocusDetrError(
                    f"host_options[{name!r}]={share!r}: token_policy={config.token_policy!r} scores no "
                    "tokens; use 1.0, or another policy"
                )

    def start(self) -> None:
        """Set parameters that belong to no layer, once its layers have started."""

    def accept(self, budget: BudgetLike | LayerCounts) -> Budget | AutoBudget | LayerCounts | None:
        """A call's budget, or else the configuration's, as `plan_for` takes it.

        Raises:
            FocusDetrError: it is no budget, this policy's work is not a matter of one, or the model has no
                rule to choose one by.
        """
        budget = self.config.budget if budget is None else budget
        if budget is not None and not self.takes_budget:
            said = budget.share if isinstance(budget, Budget) else budget
            raise _no_budget(said, self.config.token_policy)
        if isinstance(budget, LayerCounts):
            return budget
        if budget == AUTO or isinstance(budget, AutoBudget):
            return self._rule(budget)
        return Budget.of(budget)

    def _rule(self, budget: str | AutoBudget) -> AutoBudget:
        c = self.config
        if not self.selects:
            raise FocusDetrError(
                f"budget={AUTO!r}: token_policy={c.token_policy!r} has no `select`; use a number"
            )
        if c.switches.batch_counts or c.switches.padded_fine_tokens:
            raise FocusDetrError(
                f"budget={AUTO!r}: with the quirks batch_counts and padded_fine_tokens, as released, "
                "pictures of a batch cannot have budgets of their own; use a number"
            )
        if not isinstance(budget, AutoBudget) and c.auto_budget is None:
            raise FocusDetrError(
                f"budget={AUTO!r}: this model has no rule to choose by; `focus-detr calibrate MODEL DATA "
                "--auto --output FOLDER` writes a copy that has one"
            )
        rule = budget if isinstance(budget, AutoBudget) else AutoBudget.of(c.auto_budget or {})
        if rule.learned and not self.chooses:
            raise FocusDetrError(
                "auto_budget['learned']=True: this model has no chooser (learned_budget); calibrate it anew"
            )
        return rule

    @property
    def selects(self) -> bool:
        """Whether tokens are chosen by foreground scores, by `select`."""
        return type(self).select is not TokenPolicy.select

    def check_ranking(self, name: str) -> None:
        """Raise FocusDetrError, about the option ``name``, where there is nothing to be ranked otherwise."""
        if not self.selects:
            able = [each for each in POLICIES.names() if POLICIES[each].select is not TokenPolicy.select]
            raise FocusDetrError(
                f"{name}: token_policy={self.config.token_policy!r} chooses no tokens by foreground scores; "
                f"leave it out, or use a policy that does: {', '.join(able)}"
            )

    def score(self, tokens: Tokens) -> Tensor:
        """Foreground logits (B,N), of policies that choose tokens by them, whatever the budget."""
        raise NotImplementedError

    def select(self, scores: Tensor, geometry: Geometry, budget: Budget | None) -> TokenPlan:
        """The plan that foreground logits (B,N) make."""
        raise NotImplementedError

    @property
    def chooses(self) -> bool:
        """Whether there is a learned choice of budgets."""
        return False

    def expects(self, scores: Tensor, valid: Tensor | None, budget: float) -> Tensor:
        """What images of these foreground logits (B,N) are expected to keep at a budget, (B,) in 0..1."""
        raise NotImplementedError

    @property
    def nested(self) -> bool:
        """Whether the plan is the best tokens of all in one order, of which layers take as many as are
        counted: counts can then be an input of an exported graph (see `keeps`)."""
        return False

    def keeps(self) -> tuple[float, tuple[float, ...]]:
        """The keep ratio and cascade that a `nested` policy is configured for."""
        raise NotImplementedError

    def plan_for(
        self,
        tokens: Tokens,
        budget: Budget | AutoBudget | LayerCounts | None,
        ranking: Ranking | None = None,
    ) -> TokenPlan | None:
        """The plan at what `accept` gave: of one budget, or of that which each image's scores call for.

        ``ranking`` says what tokens are chosen by in place of their scores, which the plan has all the same.
        """
        if isinstance(budget, LayerCounts):
            scores = self.score(tokens)
            return TokenPlan(scores, descending(scores.detach(), budget.counts[0]), budget.counts, None)
        if ranking is None and not isinstance(budget, AutoBudget):
            return self.plan(tokens, budget)
        scores, geometry = self.score(tokens), tokens.geometry
        ranked = scores if ranking is None else ranking(scores, geometry)

        def plan_at(budget: Budget | None) -> TokenPlan:
            return dataclasses.replace(self.select(ranked, geometry, budget), scores=scores, ranked=ranked)

        if not isinstance(budget, AutoBudget):
            return plan_at(budget)
        expects = partial(self.expects, scores.detach(), geometry.valid) if budget.learned else None
        return budget.choose(plan_at, scores, geometry.valid, expects)

    def plan(self, tokens: Tokens, budget: Budget | None = None) -> TokenPlan | None:
        """Which of the tokens each layer works on; None for all of them.

        Args:
            budget: how many that are; None for what the configuration says.
        """
        return None

    def forward(self, tokens: Tokens, plan: TokenPlan | None) -> Memory:
        """Tokens to the memory the decoder looks at."""
        raise NotImplementedError

    def losses(
        self, memory: Memory, decoded: DecoderOutput, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """What teaches the policy, already weighted; ``strides`` are input pixels a cell of each level."""
        return {}

    def pass_losses(
        self, memory: Memory, strides: list[int], labels: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """What teaches the policy in further passes, too (see `Detector.forward`), which
        share its scores, but not what it makes of tokens."""
        return {}


POLICIES: Registry[TokenPolicy] = Registry("token_policy")


def _no_budget(share: Any, policy: str) -> FocusDetrError:
    able = [name for name in POLICIES.names() if POLICIES[name].takes_budget]
    return FocusDetrError(
        f"budget={share}: token_policy={policy!r} leaves no tokens out; leave the budget out, or use a "
        f"policy that takes one: {', '.join(able)}"
    )

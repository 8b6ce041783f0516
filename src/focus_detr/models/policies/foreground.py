"""What can be told to policies that keep a foreground, and which of it fits a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from focus_detr.errors import FocusDetrError
from focus_detr.models.options import check_ranges
from focus_detr.models.policies.scoring import MODULATIONS
from focus_detr.structures.budget import share

if TYPE_CHECKING:
    from focus_detr.models.configuration import FocusDetrConfig


@dataclass(frozen=True)
class ForegroundOptions:
    """What can be told to a policy that keeps a foreground, in a cascade; parts of the paper can be left out,
    to see what each is worth."""

    cascade: tuple[float, ...] = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2)
    """Share of the foreground each encoder layer works on, one a layer, not increasing."""
    num_fine_tokens: int = 300
    """Tokens that take part in self-attention in each encoder layer (paper: k)."""
    fine_share: float = 0.0
    """Share of the tokens a layer works on that do, in the place of ``num_fine_tokens``; 0 for these. Without
    ``category_score``, what a token is given (nothing, deformable attention, or full attention, too) is then
    a matter of quantiles of one score."""
    foreground_ranges: tuple[float, ...] = ()
    """Upper bounds in pixels of the object sizes that each level but the last answers for; 64, 128, 256, ...
    when empty."""
    foreground_loss_coefficient: float = 1.5
    top_down: bool = True
    """Scores of a level modulate those of the next finer one; otherwise each level is scored by itself."""
    modulates: str = "tokens"
    """What they act on there: the `tokens`, as released, which the norm that follows undoes all but where the
    factor is negative; the `normalised` tokens; or the `scores`, which they are added to."""
    dual_attention: bool = True
    """Fine-grained tokens attend to one another; otherwise there is deformable attention alone."""
    category_score: bool = True
    """Fine-grained tokens have the best category times foreground score; otherwise foreground score alone."""
    foreground_ffn: float = 1.0
    """Share of a feed-forward network's hidden units for tokens that are not fine-grained; these have all."""
    learned_budget: bool = False
    """A small head learns in any-budget training what a picture loses at a budget, to choose it by."""


@dataclass(frozen=True)
class FocusOptions(ForegroundOptions):
    """What can be told to the focus policy."""

    keep_ratio: float = 0.5
    """Share of tokens kept as foreground, as in the paper."""
    level_quotas: tuple[float, ...] = ()
    """Share of each level's tokens that may be kept, fine to coarse, in the place of ``keep_ratio``; levels
    compete with each other when empty."""
    graded_labels: bool = False
    """The selector is taught three grades, background, the boundary of a box, and its centre; otherwise, as
    in the paper, whether a token is in a box."""
    reactivation: bool = False
    """Each layer chooses from all tokens again, by what those before it made of the ones they worked on: what
    one leaves may come back. Otherwise, as in the paper, it takes the best of the layer before."""


def foreground_ranges(options: ForegroundOptions, num_levels: int) -> tuple[float, ...]:
    """Upper bounds in pixels of the object sizes that each level but the last answers for."""
    return options.foreground_ranges or tuple(64.0 * 2**level for level in range(num_levels - 1))


def foreground_units(options: ForegroundOptions, config: FocusDetrConfig) -> int:
    """Hidden units of the encoder's feed-forward networks for tokens that are not fine-grained."""
    return max(1, share(options.foreground_ffn, config.encoder_ffn_dim))


def check_foreground(options: ForegroundOptions, config: FocusDetrConfig) -> None:
    """Refuse options that do not fit the encoder."""
    check_ranges(
        options,
        "policy_options",
        num_fine_tokens=(1, math.inf),
        fine_share=(0, 1),
        foreground_loss_coefficient=(0, math.inf),
    )
    if options.modulates not in MODULATIONS:
        raise FocusDetrError(f"modulates={options.modulates!r}: must be one of {', '.join(MODULATIONS)}")
    if not 0 < options.foreground_ffn <= 1:
        raise FocusDetrError(
            f"policy_options['foreground_ffn']={options.foreground_ffn}: must lie in (0, 1]; 0.5 is half"
        )
    if options.foreground_ffn < 1 and not options.dual_attention:
        raise FocusDetrError(
            f"policy_options['foreground_ffn']={options.foreground_ffn}: without dual_attention no token is "
            "fine-grained; use 1.0, or dual_attention"
        )
    cascade = list(options.cascade)
    if len(cascade) != config.encoder_layers:
        raise FocusDetrError(
            f"cascade={cascade}: needs one share for each of the {config.encoder_layers} encoder layers"
        )
    if any(not 0 < share <= 1 for share in cascade) or cascade != sorted(cascade, reverse=True):
        raise FocusDetrError(f"cascade={cascade}: shares must lie in (0, 1] and must not increase")
    bounds = [0.0, *foreground_ranges(options, config.num_levels)]
    if len(bounds) != config.num_levels or any(b <= a for a, b in pairwise(bounds)):
        raise FocusDetrError(
            f"foreground_ranges={bounds[1:]}: needs {config.num_levels - 1} increasing positive bounds, one "
            f"for each of the {config.num_levels} levels but the last"
        )


def check_quotas(quotas: Sequence[float], config: FocusDetrConfig) -> None:
    """Refuse shares of levels that are none, or not one a level."""
    if len(quotas) != config.num_levels or any(not 0 < quota <= 1 for quota in quotas):
        raise FocusDetrError(
            f"policy_options['level_quotas']={list(quotas)}: needs one share in (0, 1] for each of the "
            f"{config.num_levels} levels, fine to coarse"
        )


_NO_WAY_BACK = ("batch_counts", "batch_fill", "frozen_values", "padded_fine_tokens")


def check_reactivation(options: FocusOptions, config: FocusDetrConfig) -> None:
    if options.reactivation and options.level_quotas:
        raise FocusDetrError(
            "policy_options['reactivation']=True: layers choose from all tokens, whatever their level; leave "
            "level_quotas out"
        )
    named = [name for name in _NO_WAY_BACK if getattr(config.switches, name)]
    if options.reactivation and named:
        raise FocusDetrError(
            f"policy_options['reactivation']=True: the released form, of which this model has the quirks "
            f"{', '.join(named)}, leaves tokens for good; leave reactivation out, or these quirks"
        )

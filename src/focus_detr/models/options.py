"""Options stand beside the class that they are for; those of the first classes had flat names once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.models.plugins import import_plugins

# Fields of the configuration before 0.2, of the policies and hosts of today. Their flat names go with 0.3,
# but for presets and recipes, which say them for whichever class has them.
FORMER = (
    "keep_ratio", "cascade", "num_fine_tokens", "foreground_ranges", "foreground_loss_coefficient",
    "denoising_queries", "label_noise", "box_noise",
)  # fmt: skip


def option_names(options: type) -> set[str]:
    """The names of a dataclass of options."""
    return {field.name for field in dataclasses.fields(options)}


def in_place(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a configuration, those of flat names as options of the policy and host that have them.

    What neither has is dropped, as it had no effect; what ``policy_options`` and ``host_options`` say
    themselves goes before it.
    """
    from focus_detr.models.hosts import HOSTS
    from focus_detr.models.policies import POLICIES

    import_plugins(fields.get("plugins", ()))
    placed = {name: value for name, value in fields.items() if name not in FORMER}
    if len(placed) == len(fields):
        return placed
    owners = {
        "policy_options": POLICIES[fields.get("token_policy", "focus")].options_class,
        "host_options": HOSTS[fields.get("host", "dino")].options_class,
    }
    for key, options in owners.items():
        flat = {name: fields[name] for name in FORMER if name in fields and name in option_names(options)}
        if flat:
            placed[key] = {**flat, **placed.get(key, {})}
    return placed


def check_ranges(options: Any, where: str, **ranges: tuple[float, float]) -> None:
    """Refuse an option outside of its range, both ends included.

    Args:
        where: how messages name the options, as in ``policy_options``.
    """
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise FocusDetrError(f"{where}[{name!r}]={value}: must lie in [{low}, {high}]")


def check_keep_ratio(options: Any) -> None:
    """Refuse a share of tokens to keep that is none."""
    if not 0 < options.keep_ratio <= 1:
        raise FocusDetrError(
            f"policy_options['keep_ratio']={options.keep_ratio}: must lie in (0, 1]; the paper uses 0.5"
        )

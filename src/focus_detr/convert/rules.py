"""Renaming by ordered rules: the first rule that matches a key says what becomes of it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError

Target = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that ``pattern`` matches in full.

    Args:
        pattern: regular expression.
        target: new name (with ``\\1`` groups, or a function of the match); None drops the key.
        reason: why it is dropped.
        alias_of: the key of the checkpoint whose tensor this one must equal, and is dropped for.
        split: the tensor is cut along its first axis into equal parts, one for each name put for ``{part}``.
    """

    pattern: str
    target: Target | None = None
    reason: str = ""
    alias_of: str | None = None
    split: tuple[str, ...] = ()

    def new_names(self, match: re.Match[str]) -> list[str]:
        """Names of the tensors that the matched key becomes."""
        if self.target is None:
            return []
        name = self.target(match) if callable(self.target) else match.expand(self.target)
        return [name.replace("{part}", part) for part in self.split] if self.split else [name]


@dataclass
class Renaming:
    """Outcome of `apply_rules`: every key of the checkpoint is in ``names``, ``dropped`` or ``unknown``."""

    state: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def apply_rules(state: dict[str, Tensor], rules: Iterable[Rule], source: str) -> Renaming:
    """Rename ``state`` by the first matching of ``rules``, checking aliases.

    Raises:
        FocusDetrError: an alias differs from its original, or two keys get the same name.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    result = Renaming()
    state = _settle_aliases(state, compiled, result.notes)
    for key, value in state.items():
        for pattern, rule in compiled:
            match = pattern.fullmatch(key)
            if match:
                _apply(rule, match, value, state, result, source)
                break
        else:
            result.unknown.append(key)
    return result


def _settle_aliases(
    state: dict[str, Tensor], compiled: list[tuple[re.Pattern[str], Rule]], notes: list[str]
) -> dict[str, Tensor]:
    """Give copies one value where a file was written key by key, with a value of its own for every key.

    The original's copies share storage, so a file it saved has equal ones, and a file in which some agree and
    some do not is damaged (found later). One in which none agree was made from the list of keys; loading it
    into the original leaves the value of the last key of each group.
    """
    groups: dict[str, list[str]] = {}
    for key in state:
        for pattern, rule in compiled:
            if match := pattern.fullmatch(key):
                if rule.alias_of is not None:
                    groups.setdefault(match.expand(rule.alias_of), []).append(key)
                break
    groups = {original: copies for original, copies in groups.items() if original in state}
    if not groups or any(
        torch.equal(state[copy], state[original]) for original, copies in groups.items() for copy in copies
    ):
        return state
    order = {key: place for place, key in enumerate(state)}
    settled = dict(state)
    for original, copies in groups.items():
        members = [original, *copies]
        last = max(members, key=order.__getitem__)
        settled.update(dict.fromkeys(members, state[last]))
    notes.append(
        f"no two copies agree in any of {len(groups)} groups of shared tensors: the file was not saved by "
        "the original; the last key of each group counts, as when the original loads it"
    )
    return settled


def _apply(
    rule: Rule, match: re.Match[str], value: Tensor, state: dict[str, Tensor], result: Renaming, source: str
) -> None:
    key = match.string
    if rule.alias_of is not None:
        original = match.expand(rule.alias_of)
        if original not in state:
            raise FocusDetrError(f"{source}: {key} is a copy of {original}, which is not there")
        if not torch.equal(value, state[original]):
            raise FocusDetrError(f"{source}: {key} should be a copy of {original} and differs from it")
        result.dropped[key] = f"copy of {original}"
        return
    names = rule.new_names(match)
    if not names:
        result.dropped[key] = rule.reason
        return
    if len(value) % len(names) if value.ndim else len(names) > 1:
        raise FocusDetrError(f"{source}: {key} of shape {list(value.shape)} cannot be cut in {len(names)}")
    parts = value.chunk(len(names)) if len(names) > 1 else [value]
    for name, part in zip(names, parts, strict=True):
        if name in result.state:
            raise FocusDetrError(f"{source}: {key} and another key both become {name}")
        result.state[name] = part
    result.names[key] = names

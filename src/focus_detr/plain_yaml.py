"""YAML of settings, which may be anybody's: plain values alone, of bounded depth and size, nothing run."""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 30
_MOST_VALUES = 100_000
"""With what aliases repeat: nine lines of them can stand for a milliard of values."""


def load_plain(text: str) -> Any:
    """What `yaml.safe_load` gives; raises `yaml.YAMLError` for more, and where aliases multiply or nest."""
    return yaml.load(text, Loader=_Loader)  # a safe one, with limits


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        before = self._values
        alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias of what it is a part of", mark)
        self._values += self._sizes[id(node)] if alias else 1
        if self._values > _MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, "too many values, aliases counted", mark)
        self._sizes[id(node)] = self._values - before
        return node

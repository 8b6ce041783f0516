"""Reading yaml for its words: `no`, `007` and `1.10` stay what was written. Small, flat files; no bombs.

Built from yaml's events, since every loader expands aliases and merges, and builds objects from tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from focus_detr.data.formats.reading import UnreadableFileError, read_text
from focus_detr.errors import FocusDetrError
from focus_detr.printable import in_line

_LARGEST = 16 * 2**20
_MOST_ALIASES = 100
_DEEPEST = 30
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")
)
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass
class YamlFile:
    """A yaml file whose top level is a map: text, lists, maps and None by key, and the line of every key."""

    file: Path
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def refusal(self, key: str, message: str) -> FocusDetrError:
        """The error for what stands at `key`."""
        return FocusDetrError(f"{self.file}, line {self.lines.get(key, 1)}: {message}.")


def read_yaml(file: Path) -> YamlFile | None:
    """None where the file is yaml, but its top level no map.

    Raises `UnreadableFileError` naming file and line for what is not yaml, larger than 16 MB, nested deeply,
    full of aliases, or has merges, tags of other languages, or a key twice.
    """
    text = read_text(file, _LARGEST)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _refused(file, line, f"not valid yaml ({error.reason})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(filter(None, (error.context, error.problem)))
        raise _refused(file, mark.line + 1 if mark else 1, f"not valid yaml ({reason})") from error
    return YamlFile(file, builder.document, builder.lines) if isinstance(builder.document, dict) else None


@dataclass
class _Open:
    """A list or map whose end has not come yet."""

    value: Any
    anchor: str | None
    key: str | None = None
    """Of a map: the key that waits for its value."""


class _Builder:
    """Makes values of events, one after the other, on a stack of its own: no depth ends in a recursion."""

    def __init__(self, file: Path) -> None:
        self.document: Any = None
        self.lines: dict[str, int] = {}
        self._file = file
        self._open: list[_Open] = []
        self._anchors: dict[str, Any] = {}
        self._aliases = self._documents = 0
        self._line = 1

    def take(self, event: yaml.Event) -> None:
        if event.start_mark is not None:
            self._line = event.start_mark.line + 1
        self._check_tag(getattr(event, "tag", None))
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._refuse("a second document begins; give one a file")
        elif isinstance(event, yaml.ScalarEvent):
            plain_null = event.style in (None, "") and event.value in _NULLS and event.tag is None
            self._put(None if plain_null else event.value, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MOST_ALIASES or event.anchor not in self._anchors:
                raise self._refuse(
                    f"the alias *{event.anchor} is unknown or one of too many; write its value out"
                )
            self._put(self._anchors[event.anchor], None)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self._open) >= _DEEPEST:
                raise self._refuse("nested too deeply")
            self._open.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._put(done.value, done.anchor)

    def _put(self, value: Any, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = value
        if not self._open:
            self.document = value
            return
        place = self._open[-1]
        if isinstance(place.value, list):
            place.value.append(value)
        elif place.key is None:
            place.key = self._new_key(value, place.value)
        else:
            place.value[place.key] = value
            place.key = None

    def _new_key(self, value: Any, taken: dict[str, Any]) -> str:
        key = "" if value is None else value
        if not isinstance(key, str):
            raise self._refuse("a list or map stands where a key belongs")
        if key == "<<":
            raise self._refuse("merges (<<) are not read; write the keys out")
        if key in taken:
            raise self._refuse(f"the key {in_line(key, 60)!r} is there twice")
        if len(self._open) == 1:
            self.lines[key] = self._line
        return key

    def _check_tag(self, tag: str | None) -> None:
        if tag not in (None, "!") and tag not in _PLAIN_TAGS:
            raise self._refuse(f"the tag {in_line(tag, 60)} is not read; leave it out")

    def _refuse(self, message: str) -> UnreadableFileError:
        return _refused(self._file, self._line, message)


def _refused(file: Path, line: int, message: str) -> UnreadableFileError:
    return UnreadableFileError(f"{file}, line {line}: {message.removesuffix('.')}.")

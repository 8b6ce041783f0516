"""Blocks of pictures, the unit that is done or not, and the manifest that says once and for all which."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from focus_detr.batch.places import Place
from focus_detr.errors import FocusDetrError


@dataclass(frozen=True)
class Block:
    """Some pictures, in an order that never changes: files, a part of a table, or a shard.

    Attributes:
        kind: `files`; `rows`, pictures in a column of a table; `shard`, an archive.
        files: names of the pictures' files; in place of one, (name, reason) where there is none to be read.
        source: the table or archive.
        groups: of a table, its row groups.
        first_row: of a table, the row that the first of them is.
        column: of a table, where the pictures are; of an archive, the ending of those that are pictures.
        pictures: how many there are; None of an archive, which only reading it would say.
    """

    kind: str
    files: tuple[str | tuple[str, str], ...] = ()
    source: str = ""
    groups: tuple[int, ...] = ()
    first_row: int = 0
    column: str = ""
    pictures: int | None = None

    @classmethod
    def of_files(cls, files: Iterable[str | tuple[str, str]]) -> Block:
        listed = tuple(files)
        return cls("files", files=listed, pictures=len(listed))

    def to_line(self) -> bytes:
        """JSON in ASCII, which holds names that are no Unicode, too."""
        known = {name: value for name, value in asdict(self).items() if value not in ((), "", 0)}
        return json.dumps(known).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Block:
        fields = json.loads(line)
        files = [each if isinstance(each, str) else tuple(each) for each in fields.pop("files", ())]
        groups = tuple(fields.pop("groups", ()))
        return cls(**fields, files=tuple(files), groups=groups)


@dataclass(frozen=True)
class BlockPlace:
    """Where a block's line stands in the manifest: in bytes, so that whoever needs it reads it alone."""

    number: int
    first: int
    end: int

    def read(self, manifest: Place) -> Block:
        return Block.of_line(manifest.read(self.first, self.end))


def write_manifest(manifest: Place, blocks: Iterable[Block]) -> int:
    """A line for each block, written as they come, all of them or none; returns their number."""
    count = 0
    with manifest.whole() as stream:
        for block in blocks:
            stream.write(block.to_line())
            count += 1
        if not count:
            raise FocusDetrError("batch: no picture found")
    return count


def block_places(manifest: Place) -> Iterator[BlockPlace]:
    """Of every block, without keeping any."""
    first = 0
    with manifest.open() as stream:
        for number, line in enumerate(stream):
            yield BlockPlace(number, first, first + len(line))
            first += len(line)


def same_choices(before: dict[str, Any], choices: dict[str, Any], output: Place) -> None:
    """Raises `FocusDetrError` where a run that goes on is asked for something else."""
    for name, value in choices.items():
        if before.get(name) != value:
            raise FocusDetrError(
                f"{name}: {value!r} is not what the run in {output.name} was begun with, "
                f"{before.get(name)!r}; ask for the same to go on with it, or give another --output"
            )

"""What a run is asked to look at, listed as blocks: the same ones in the same order, whoever asks again."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from focus_detr.batch.blocks import Block
from focus_detr.batch.places import Place
from focus_detr.batch.table import columns_of, folder_of_paths, is_table, open_table
from focus_detr.data.formats.searching import files_below, is_image_file
from focus_detr.errors import FocusDetrError
from focus_detr.inference.sources.archives import is_archive

_ROWS_AT_ONCE = 10_000


@dataclass
class Listing:
    """Lists inputs as blocks of about `block_size` pictures.

    A file named twice, by two inputs or two rows, is one picture. `left_out` says what was seen and not
    taken, for people.
    """

    inputs: Sequence[str]
    block_size: int = 256
    column: str | None = None
    left_out: list[str] = field(default_factory=list)
    twice: int = 0

    def blocks(self) -> Iterator[Block]:
        """Raises `FocusDetrError` for an input behind which there is nothing."""
        seen: set[bytes] | None = set() if len(self.inputs) > 1 else None
        for text in self.inputs:
            tables: list[Place] = []
            shards: list[Place] = []
            pictures = self._sorted_out(text, tables, shards)
            yield from self._of_files(pictures, seen)
            for shard in shards:
                if self._is_new(shard.name, seen):
                    yield Block("shard", source=shard.name, column=self.column or "")
            for table in tables:
                if self._is_new(table.name, seen):
                    yield from self._of_table(table, seen)

    def _sorted_out(self, text: str, tables: list[Place], shards: list[Place]) -> Iterable[str]:
        """The names of an input's pictures; its tables and shards are put into the lists."""
        files, searched = _files_of(text)
        pictures = [file for file in files if _is_picture(file)]
        tables += [file for file in files if is_table(file.name)]
        shards += [file for file in files if is_archive(file.name)]
        if searched and pictures and (tables or shards):
            # Archives and tables often lie beside what they were made of or unpacked to.
            beside = [*tables, *shards]
            self.left_out.append(
                f"{text}: holds pictures, which are taken, and {len(beside)} tables or archives, which are "
                f"not, as {beside[0].name}; name them to have them, too"
            )
            tables.clear()
            shards.clear()
        if not pictures and not tables and not shards:
            if not searched and files:  # whatever it is called, somebody said it is a picture
                return [file.name for file in files]
            raise FocusDetrError(f"{text}: no picture, no table (.parquet) and no archive (.tar, .zip) found")
        return [file.name for file in pictures]

    def _of_files(self, files: Iterable[str | tuple[str, str]], seen: set[bytes] | None) -> Iterator[Block]:
        new = (each for each in files if self._is_new(each if isinstance(each, str) else each[0], seen))
        while some := list(islice(new, self.block_size)):
            yield Block.of_files(some)

    def _of_table(self, table: Place, seen: set[bytes] | None) -> Iterator[Block]:
        with open_table(table) as parquet:
            column, holds_pictures = columns_of(table, parquet, self.column)
            if not holds_pictures:
                yield from self._of_files(_paths(table, parquet, column), set() if seen is None else seen)
                return
            groups: list[int] = []
            first = rows = 0
            sizes = [parquet.metadata.row_group(at).num_rows for at in range(parquet.num_row_groups)]
            for at, size in enumerate(sizes):
                if groups and rows + size > self.block_size:
                    yield _of_groups(table, groups, first, column, rows)
                    groups, first, rows = [], first + rows, 0
                groups, rows = [*groups, at], rows + size
            if rows:
                yield _of_groups(table, groups, first, column, rows)

    def _is_new(self, name: str, seen: set[bytes] | None) -> bool:
        if seen is None:
            return True
        # Digests: paths by the million are as many times 100 bytes.
        digest = hashlib.blake2b(_identity(name).encode(errors="surrogateescape"), digest_size=16).digest()
        if digest in seen:
            self.twice += 1
            return False
        seen.add(digest)
        return True


def _files_of(text: str) -> tuple[list[Place], bool]:
    """The files that an input stands for, and whether they were searched rather than named."""
    place = Place.of(text)
    if place.is_local:
        if os.path.isdir(place.name):
            found = files_below(Path(place.name), _is_wanted)
            return [Place(str(path)) for path in found], True
        if os.path.lexists(place.name):
            return [place], False
        if glob.has_magic(place.name):
            matches = sorted(glob.glob(place.name, recursive=True))
            return [
                Place(match) for match in matches if _is_wanted(Path(match)) and os.path.isfile(match)
            ], False
        raise FocusDetrError(f"{text}: no such file or folder")
    if place.is_web:
        return [place], False
    try:
        if glob.has_magic(place.name):
            return [each for each in place.matches() if _is_wanted(PurePosixPath(each.name))], False
        if place.is_folder():
            return [each for each in place.files() if _is_wanted(PurePosixPath(each.name))], True
        if place.exists():
            return [place], False
    except OSError as error:
        raise FocusDetrError(f"{text}: cannot be listed ({error})") from error
    raise FocusDetrError(f"{text}: no such file or folder")


def _is_wanted(path: Any) -> bool:
    name = path.name
    return is_image_file(path) or (not name.startswith(".") and (is_table(name) or is_archive(name)))


def _is_picture(place: Place) -> bool:
    return is_image_file(PurePosixPath(place.name))


def _identity(name: str) -> str:
    return name if "://" in name else os.path.abspath(name)


def _paths(table: Place, parquet: Any, column: str) -> Iterator[str | tuple[str, str]]:
    """The paths of a table: URLs, or those of files, relative ones to `folder_of_paths`."""
    folder = folder_of_paths(table, parquet)
    row = 0
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=[column]):
        for value in batch.column(0).to_pylist():
            if not value:
                yield f"{table.name}#row={row}", f"column {column!r} of the table holds no path in this row"
            elif "://" in value or os.path.isabs(value):
                yield value
            else:
                yield f"{folder}/{value}"
            row += 1


def _of_groups(table: Place, groups: list[int], first: int, column: str, rows: int) -> Block:
    return Block(
        "rows", source=table.name, groups=tuple(groups), first_row=first, column=column, pictures=rows
    )

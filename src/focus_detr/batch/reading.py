"""The pictures of a block, one after another, and each of them read: an image, or a dead letter."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath, PurePosixPath
from typing import Any

from focus_detr.batch.blocks import Block
from focus_detr.batch.letters import ARCHIVE, MISSING, TOO_LARGE, UNDECODABLE, UNREACHABLE, DeadLetter
from focus_detr.batch.places import Place
from focus_detr.batch.table import open_table
from focus_detr.data.formats.searching import is_image_file
from focus_detr.errors import FocusDetrError, TooLargeError
from focus_detr.images.reading import ImageSource
from focus_detr.images.reduced import SizedImage, SizeRule, read_for
from focus_detr.inference.results import BadImage
from focus_detr.inference.sources.archives import archive_members
from focus_detr.inference.sources.download import download, without_password
from focus_detr.inference.sources.options import SourceOptions

_ROWS_AT_ONCE = 16
_WAITS = (0.2, 1.0, 3.0)
"""Seconds between attempts to reach a file of a store."""
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class Item:
    """A picture by name, and how its file is had; reading it raises `OSError` or `FocusDetrError`."""

    name: str
    fetch: Callable[[], ImageSource]


def items_of(block: Block, options: SourceOptions) -> Iterator[Item | DeadLetter]:
    """The pictures of a block in their order, none of them decoded; never raises for one of them."""
    if block.kind == "files":
        for each in block.files:
            if isinstance(each, str):
                yield Item(without_password(each), partial(_file, each, options))
            else:
                yield DeadLetter(each[0], MISSING, each[1])
    elif block.kind == "rows":
        yield from _rows(block)
    else:
        yield from _members(block, options)


def read(item: Item, rule: SizeRule | None, options: SourceOptions) -> SizedImage | DeadLetter:
    """An image as good as whole at the size that ``rule`` gives (see `read_for`)."""

    def letter(kind: str, reason: object) -> DeadLetter:
        return DeadLetter(item.name, kind, str(reason).removeprefix(f"{item.name}: "))

    try:
        source = item.fetch()
        if rule is None:
            rule = _as_it_is
        return read_for(source, rule, options.max_pixels)
    except TooLargeError as error:
        return letter(TOO_LARGE, error)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return letter(MISSING, "no such image file")
    except OSError as error:
        return letter(UNREACHABLE, error)
    except FocusDetrError as error:
        return letter(UNDECODABLE, error)
    except Exception as error:  # one bad picture must not end a run of millions
        return letter(UNDECODABLE, f"{type(error).__name__}: {error}")


def _as_it_is(height: int, width: int) -> tuple[int, int]:
    return height, width


def _file(name: str, options: SourceOptions) -> ImageSource:
    place = Place(name)
    if place.is_web:
        try:
            return io.BytesIO(download(name, timeout=options.timeout, max_megabytes=options.max_megabytes))
        except FocusDetrError as error:  # there is no picture to be decoded
            raise ConnectionError(str(error)) from error
    if place.is_local:
        os.stat(name)  # raises for what is missing, which a decoder would only call unreadable
        return name
    limit = int(options.max_megabytes * 2**20)
    try:
        content = patiently(lambda: place.read(0, limit + 1))
    except FocusDetrError as error:  # its store is not known here, or what reads it not installed
        raise ConnectionError(str(error)) from error
    if len(content) > limit:
        raise TooLargeError(f"{name}: larger than the limit of {options.max_megabytes:g} MB")
    return io.BytesIO(content)


def patiently(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, tried again where a store did not answer."""
    for wait in _WAITS:
        try:
            return work()
        except _FINAL:
            raise
        except OSError:
            time.sleep(wait)
    return work()


def _rows(block: Block) -> Iterator[Item | DeadLetter]:
    table, row = Place(block.source), block.first_row
    end = row + (block.pictures or 0)
    try:
        with open_table(table) as parquet:
            wanted = {"row_groups": list(block.groups), "columns": [block.column]}
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, **wanted):
                for value in batch.column(0).to_pylist():
                    yield _row(f"{table.name}#row={row}", value)
                    row += 1
        kind, why = UNDECODABLE, "the table has fewer rows than when the run was begun"
    except (OSError, ValueError) as error:  # pyarrow's own and ours are among them
        kind = UNREACHABLE if isinstance(error, OSError) else UNDECODABLE
        kind = MISSING if isinstance(error.__cause__, FileNotFoundError) else kind
        why = f"the table cannot be read from here on ({error})"
    for at in range(row, end):
        yield DeadLetter(f"{table.name}#row={at}", kind, why)


def _row(name: str, value: Any) -> Item | DeadLetter:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not content:
        return DeadLetter(name, MISSING, "the table holds no picture in this row")
    return Item(name, lambda: io.BytesIO(content))


def _members(block: Block, options: SourceOptions) -> Iterator[Item | DeadLetter]:
    place, empty = Place(block.source), True
    ending = f".{block.column}" if block.column else ""

    def is_wanted(path: PurePath) -> bool:
        name = path.name
        # WebDataset's rule: what stands behind the first dot says what a member is.
        return name[name.find(".") :] == ending if ending else is_image_file(PurePosixPath(name))

    try:
        with place.here() as path:
            for member in archive_members(place.name, place.name, lambda: path, options, is_wanted):
                empty = False
                if isinstance(member, BadImage):
                    yield DeadLetter(member.path, ARCHIVE, member.reason)
                else:
                    yield Item(member.name, member.read)
    except FileNotFoundError:
        yield DeadLetter(place.name, MISSING, "no such archive")
        return
    except OSError as error:
        yield DeadLetter(place.name, UNREACHABLE, str(error))
        return
    if empty:
        yield DeadLetter(place.name, MISSING, "the archive holds no picture")


def limits(max_megapixels: float) -> SourceOptions:
    """What one picture may cost."""
    return replace(SourceOptions(), max_pixels=int(max_megapixels * 1_000_000))

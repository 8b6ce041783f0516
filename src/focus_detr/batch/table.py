"""Parquet tables of pictures: the package that reads them, and the column where pictures are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from focus_detr.batch.places import Place
from focus_detr.errors import FocusDetrError, did_you_mean

COLUMNS = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "path", "file_name", "image_path", "url")
"""Names that a table's pictures, or the paths to them, usually have; the first that a table has is taken."""

_RELATIVE_TO = b"focus_detr.relative_to"


def arrow() -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`; raises `FocusDetrError` where they are missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise FocusDetrError("batch needs the package pyarrow: pip install 'focus-detr[batch]'") from error
    return pyarrow, pyarrow.parquet


def is_table(name: str) -> bool:
    """By its name."""
    return name.lower().endswith((".parquet", ".pq"))


@contextmanager
def open_table(table: Place) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`; raises `FocusDetrError` for a file that is none."""
    pyarrow, parquet = arrow()
    try:
        with table.open() as stream:
            # Read page by page: a row group of pictures may be larger than memory.
            yield parquet.ParquetFile(stream, pre_buffer=False, buffer_size=2**20)
    except (pyarrow.ArrowInvalid, FileNotFoundError) as error:
        raise FocusDetrError(f"{table.name}: cannot be read as a Parquet table ({error})") from error


def relative_here(schema: Any) -> Any:
    """A table's schema, saying that paths in it are relative to this process's folder, not to the table's."""
    return schema.with_metadata({_RELATIVE_TO: os.fsencode(os.getcwd())})


def folder_of_paths(table: Place, parquet: Any) -> str:
    """What relative paths in a table are relative to: its own folder, where it does not say otherwise."""
    said = (parquet.schema_arrow.metadata or {}).get(_RELATIVE_TO)
    return os.fsdecode(said) if said else table.name.rpartition("/")[0] or "."


def columns_of(table: Place, parquet: Any, wanted: str | None) -> tuple[str, bool]:
    """The column of pictures or of paths to them, and whether it is the pictures themselves.

    A column of structs with a field `bytes`, as the library datasets writes pictures, is one of pictures.
    """
    schema = parquet.schema_arrow
    if wanted is not None and wanted not in schema.names:
        raise FocusDetrError(
            f"--column {wanted!r}: {table.name} has no such column{did_you_mean(wanted, schema.names)}; "
            f"it has {', '.join(schema.names)}"
        )
    name = wanted or next((each for each in COLUMNS if each in schema.names), None)
    if name is None:
        raise FocusDetrError(
            f"{table.name}: which column holds the pictures, or the paths to them? Say --column, one of "
            f"{', '.join(schema.names)}"
        )
    kind = schema.field(name).type
    kind = getattr(kind, "value_type", kind) if str(kind).startswith("dictionary") else kind
    text = str(kind)
    if text in ("binary", "large_binary", "binary_view") or text.startswith("fixed_size_binary"):
        return name, True
    if text.startswith("struct") and "bytes" in [each.name for each in kind]:
        return name, True
    if text in ("string", "large_string", "string_view"):
        return name, False
    raise FocusDetrError(f"{table.name}: column {name!r} is {text}, which is neither pictures nor paths")

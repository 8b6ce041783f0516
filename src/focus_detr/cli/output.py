"""What verbs print: JSON for machines on stdout, tables and notes for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]


def print_json(value: Any) -> None:
    """One JSON document on one line; NaN and infinity, which JSON lacks, become null."""
    typer.echo(json.dumps(_finite(value), default=str, allow_nan=False))


def note(message: str) -> None:
    """A remark for people, on stderr so that stdout stays clean."""
    typer.echo(message, err=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns aligned by spaces; numbers to the right. Reads the same in a terminal, a log and a pipe."""
    rows = list(rows)
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in range(len(header))]
    for row in cells:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        typer.echo("  ".join(padded).rstrip())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value

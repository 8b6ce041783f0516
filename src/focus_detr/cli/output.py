"""What verbs print: JSON for machines on stdout, notes for people on stderr."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]


def print_json(value: Any) -> None:
    """One JSON document on one line; NaN and infinity, which JSON lacks, become null."""
    typer.echo(json.dumps(_finite(value), default=str, allow_nan=False))


def note(message: str) -> None:
    """A remark for people, on stderr so that stdout stays clean."""
    typer.echo(message, err=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value

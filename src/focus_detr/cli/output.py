"""What verbs print: JSON for machines on stdout, notes for people on stderr."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Annotated, Any

import typer

from focus_detr.printable import finite, printable

_PAGE = 100_000
"""Characters of the longest text that is printed whole: tables of many classes, tracebacks."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]


def print_json(value: Any) -> None:
    """One JSON document on one line; NaN and infinity, which JSON lacks, become null."""
    typer.echo(_json(value))


def _json(value: Any) -> str:
    return json.dumps(finite(value), default=str, allow_nan=False)


class JsonStream:
    """Values printed as they come: one a line, or as one list; closed by `with`."""

    def __init__(self, lines: bool) -> None:
        self._lines, self._before = lines, "["

    def __enter__(self) -> JsonStream:
        return self

    def add(self, value: Any) -> None:
        """Print a value, which is on its way when this returns."""
        if self._lines:
            print_json(value)
        else:
            typer.echo(self._before + _json(value), nl=False)
            self._before = ", "
        sys.stdout.flush()

    def __exit__(self, *error: object) -> None:
        if not self._lines:
            typer.echo("[]" if self._before == "[" else "]")


def say(message: str) -> None:
    """Text for people on stdout, fit for any console."""
    typer.echo(printable(message, longest=_PAGE))


def note(message: str) -> None:
    """A remark for people, on stderr so that stdout stays clean."""
    typer.echo(printable(message), err=True)


def any_console() -> None:
    """Let stdout and stderr show what their encoding lacks as escapes: a name must not end a run.

    Windows consoles, files written by `>` there, and `LANG=C` know few of the world's letters.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class PrintableFormatter(logging.Formatter):
    """Log lines without control characters of file names and servers."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), longest=_PAGE)

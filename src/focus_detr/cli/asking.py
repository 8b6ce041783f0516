"""Questions to whoever sits at the terminal, where somebody does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from focus_detr.printable import in_line


def may_import(names: Sequence[str]) -> bool:
    """Whether modules that a model or a recipe names may be imported; without a terminal, none may."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return False
    said = ", ".join(in_line(name, 100) for name in names)
    return typer.confirm(
        f"The model or recipe names modules of its own: {said}. Importing them runs their code. Import them?",
        err=True,
    )

"""What no verb takes: arguments that are empty, as an unset variable of a shell leaves them, and NaN."""

from __future__ import annotations

import math
from typing import Any

import typer

from focus_detr.errors import FocusDetrError


class StrictCommand(typer.core.TyperCommand):
    """A verb that refuses empty arguments and numbers that are none, whatever its options are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Looked at as they are written: an empty path would become the current folder.
        before = ""
        for argument in args:
            name, equals, value = (
                argument.partition("=") if argument.startswith("--") else (before, "=", argument)
            )
            if equals and not value.strip():
                what = name if name.startswith("-") else "an argument"
                raise FocusDetrError(
                    f"{what} is empty (a variable that is not set?); give a value, or leave it out"
                )
            before = argument
        rest = super().parse_args(ctx, args)
        for name, value in ctx.params.items():
            for each in value if isinstance(value, list | tuple) else [value]:
                if isinstance(each, float) and not math.isfinite(each):
                    raise FocusDetrError(f"--{name.replace('_', '-')} {each}: must be a finite number")
        return rest

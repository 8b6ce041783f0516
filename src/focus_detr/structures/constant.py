"""Functions whose answers are constants of a compiled graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def assume_constant_result(function: Function) -> Function:
    """As `torch.compiler.assume_constant_result`, which imports the compiler for the mark that it sets: that
    takes as long as torch itself, and whoever detects a picture compiles nothing."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function

"""Packages that only exports need."""

from __future__ import annotations

import importlib
from typing import Any

from focus_detr.errors import FocusDetrError


def need(package: str, extra: str = "export") -> Any:
    """The package, or `FocusDetrError` saying how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise FocusDetrError(
            f"exported models need the package {package}: pip install 'focus-detr[{extra}]' ({error})"
        ) from error

"""Packages that only the service needs."""

from __future__ import annotations

import importlib

from focus_detr.errors import FocusDetrError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def need_serve() -> None:
    """Raises `FocusDetrError` saying how to install what is missing."""
    for package in _NEEDED:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise FocusDetrError(
                f"serve needs the package {package}: pip install 'focus-detr[serve]' ({error})"
            ) from error

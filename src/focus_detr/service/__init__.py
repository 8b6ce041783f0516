"""The service: models behind HTTP, with a page. `focus-detr serve` runs it; it needs the extra `serve`.

A request goes gate -> routes -> pictures (decoded beside others) -> engine (in batches) -> answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from focus_detr.service.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ServiceSettings", "create_app"]


def create_app(settings: ServiceSettings, predictors: dict[str, Any] | None = None) -> FastAPI:
    """The application, to be run by any ASGI server in one process.

    Args:
        predictors: models that are loaded already, by the names they are served under; by default those of
            ``settings`` are loaded.

    Raises:
        FocusDetrError: a model cannot be loaded, or the extra `serve` is not installed.
    """
    from focus_detr.service.packages import need_serve

    need_serve()
    from focus_detr.service.app import build_app

    return build_app(settings, predictors)
